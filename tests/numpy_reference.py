"""SAM and AACE training of a conv + BatchNorm + linear net in NumPy, every formula by hand."""

import numpy as np

BN_EPSILON, BN_MOMENTUM = 1e-5, 0.1


def forward(params, inputs):
    """Return logits [n, class] and what `backward` and the running statistics need."""
    padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    conv = np.einsum("nihwkl,oikl->nohw", windows, params["conv.weight"])
    conv = conv + params["conv.bias"][:, None, None]
    mean, variance = conv.mean((0, 2, 3)), conv.var((0, 2, 3))
    inverse = 1 / np.sqrt(variance + BN_EPSILON)
    normal = (conv - mean[:, None, None]) * inverse[:, None, None]
    scaled = params["norm.weight"][:, None, None] * normal + params["norm.bias"][:, None, None]
    features = np.maximum(scaled, 0).reshape(len(inputs), -1)
    logits = features @ params["head.weight"].T + params["head.bias"]
    count = conv[:, 0].size
    statistics = mean, variance * count / (count - 1)
    return logits, (windows, inverse, normal, scaled, features), statistics


def backward(params, cache, slope):
    """Return the gradient of every parameter, given that of the logits [n, class]."""
    windows, inverse, normal, scaled, features = cache
    gradient = {"head.weight": slope.T @ features, "head.bias": slope.sum(0)}
    slope = (slope @ params["head.weight"]).reshape(scaled.shape) * (scaled > 0)
    gradient["norm.weight"] = (slope * normal).sum((0, 2, 3))
    gradient["norm.bias"] = slope.sum((0, 2, 3))
    slope = slope * params["norm.weight"][:, None, None]
    average = slope.mean((0, 2, 3), keepdims=True)
    overlap = (slope * normal).mean((0, 2, 3), keepdims=True)
    slope = inverse[:, None, None] * (slope - average - normal * overlap)
    gradient["conv.weight"] = np.einsum("nohw,nihwkl->oikl", slope, windows)
    gradient["conv.bias"] = slope.sum((0, 2, 3))
    return gradient


def probabilities(logits):
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def cross_entropy_slope(logits, targets):
    true = np.eye(logits.shape[1])[targets]
    return (probabilities(logits) - true) / len(targets)


def aace_slope(logits, targets):
    """p - q, with q the probabilities of the wrong classes scaled to sum to one."""
    p = probabilities(logits)
    wrong = p * (1 - np.eye(logits.shape[1])[targets])
    return (p - wrong / wrong.sum(1, keepdims=True)) / len(targets)


def displace(method, gradient, rho):
    if method == "aace":
        return {name: -rho * g for name, g in gradient.items()}
    norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    return {name: rho * g / (norm + 1e-12) for name, g in gradient.items()}


def train(params, batches, *, method, rho, lr, momentum, weight_decay):
    """Return the weights, the running statistics and the displacement of each step."""
    params = {name: value.copy() for name, value in params.items()}
    velocity = None
    running = [np.zeros(len(params["norm.bias"])), np.ones(len(params["norm.bias"]))]
    moves = []
    for inputs, targets in batches:
        logits, cache, statistics = forward(params, inputs)
        running = [
            (1 - BN_MOMENTUM) * old + BN_MOMENTUM * new
            for old, new in zip(running, statistics, strict=True)
        ]
        slope = (aace_slope if method == "aace" else cross_entropy_slope)(logits, targets)
        move = displace(method, backward(params, cache, slope), rho)
        moves.append(move)
        moved = {name: params[name] + move[name] for name in params}
        logits, cache, _ = forward(moved, inputs)
        gradient = backward(moved, cache, cross_entropy_slope(logits, targets))
        gradient = {name: g + weight_decay * params[name] for name, g in gradient.items()}
        if velocity is None:
            velocity = gradient
        else:
            velocity = {name: momentum * velocity[name] + g for name, g in gradient.items()}
        params = {name: params[name] - lr * velocity[name] for name in params}
    return params, running, moves
