"""The unlearning room: removal requests carried out on weights, audited and certified."""
