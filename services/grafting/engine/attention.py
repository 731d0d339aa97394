"""Attention of many configurations that share the keys and values of what comes before them."""

from typing import NamedTuple

import torch

from services.grafting.engine.architecture import Architecture


class Prefix(NamedTuple):
    """Keys and values that all configurations of a group see, each [tokens, kv_heads, head_dim]."""

    keys: torch.Tensor
    values: torch.Tensor


def rotate(rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the first dims of each head by its position's angles; the others stay.

    Parameters
    ----------
    rows
        [rows, heads, head_dim].
    cos, sin
        [rows, rotary dims], two equal halves.
    """
    dims = cos.shape[-1]
    turned, rest = rows[..., :dims], rows[..., dims:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    prefix: Prefix | None,
    architecture: Architecture,
    layer: int,
) -> torch.Tensor:
    """Let the last rows of several configurations attend to a shared prefix and to their own rows.

    The prefix is not copied for each: its scores are one product for all configurations together. Softmax is in
    float32, as in transformers' own.

    Parameters
    ----------
    queries
        [configurations, last rows, heads, head_dim].
    keys, values
        [configurations, rows, kv_heads, head_dim]; the queries are those of the last rows.
    prefix
        What comes before the rows; None if they begin the sequence.
    architecture, layer
        What scores are multiplied with, and how far a token sees.

    Returns
    -------
    torch.Tensor
        [configurations, last rows, heads * head_dim].
    """
    many, asked, heads, dim = queries.shape
    own, groups = keys.shape[1], keys.shape[2]
    before = 0 if prefix is None else prefix.keys.shape[0]
    rep = heads // groups
    by_group = queries.unflatten(2, (groups, rep)).permute(
        2, 0, 3, 1, 4
    )  # [groups, configs, rep, asked, dim]
    flat = by_group.reshape(groups, many * rep * asked, dim)
    per_config = by_group.reshape(groups * many, rep * asked, dim)
    own_keys = keys.permute(2, 0, 3, 1).reshape(groups * many, dim, own)
    scores = torch.bmm(per_config, own_keys).view(groups, many, rep, asked, own)
    if prefix is not None:
        shared = torch.bmm(flat, prefix.keys.permute(1, 2, 0))  # [groups, configs * rep * asked, before]
        scores = torch.cat((shared.view(groups, many, rep, asked, before), scores), dim=-1)
    scores = scores * architecture.scales[layer]
    at = torch.arange(before + own - asked, before + own, device=queries.device)[:, None]
    seen = torch.arange(before + own, device=queries.device)[None]
    hidden = seen > at
    window = architecture.windows[layer]
    if window is not None:
        hidden |= seen <= at - window
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(queries.dtype)
    of_own = weights[..., before:].reshape(groups * many, rep * asked, own)
    own_values = values.permute(2, 0, 1, 3).reshape(groups * many, own, dim)
    mixed = torch.bmm(of_own, own_values).view(groups, many, rep, asked, dim)
    if prefix is not None:
        of_prefix = weights[..., :before].reshape(groups, many * rep * asked, before)
        mixed = mixed + torch.bmm(of_prefix, prefix.values.transpose(0, 1)).view_as(mixed)
    return mixed.permute(1, 3, 0, 2, 4).reshape(many, asked, heads * dim)
