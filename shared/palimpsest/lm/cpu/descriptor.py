"""The step descriptor: one int64 array of sizes and addresses that compiled steps run from."""

# Entries: sizes, then addresses. A *row* is one new token of one sequence.
(
    ROWS, HEADS, KV_HEADS, HEAD_SIZE, HIDDEN, INNER, LAYERS, VOCAB, OUT_ROWS, CHUNKS,
    SYNC, X, NORMED, QKV, MIXED, GATE_UP, ACTIVE, SCORES, SCORES_STRIDE,
    POSITIONS, TABLES, TABLE_STARTS, KEYS, VALUES, BLOCK_BYTES, LAYER_BYTES,
    COS, SIN, OUT_INDEX, OUT_NORMED, LOGITS, FINAL_NORM, HEAD, KEEP, KEEP_STRIDE,
    FEW_ROWS, SHORT_PAST, COPIES, COPY_TABLES, DESCRIPTOR_SIZE,
) = range(40)  # fmt: skip

# Columns of the layer table: addresses; 0 where the model has no such tensor.
W_QKV, B_QKV, W_O, W_GATE_UP, W_DOWN, NORM_1, NORM_2, NORM_Q, NORM_K, KEEP_SLOT, LAYER_SIZE = range(11)
