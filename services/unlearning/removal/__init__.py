"""How a removal request is carried out: data, plan, training, stores, measurements, verdict, certificate."""
