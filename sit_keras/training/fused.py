"""GELU and layer normalisation in one pass over memory each, for training with TensorFlow.

TensorFlow computes them and their gradients as a dozen operations each, which read and write the
largest activations of a block again and again. XLA makes one loop of each. To compile the whole
step gains nothing on a CPU, where the matrix products of XLA are slower than TensorFlow's own.

This is for training alone: an exported network runs on servers without XLA, too.

Shapes: B batch, T tokens, D width.
"""

import math

import tensorflow as tf

from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.layers import exact_gelu, layer_norm


def fuse(backbone: SiTBackbone, compiled: bool = True) -> None:
    """Lets a backbone train with the functions of this file, or without them.

    Args:
        backbone: SiTBackbone.
        compiled: bool. False restores those that need no XLA.
    """
    if compiled:
        backbone.train_with(gelu=fused_gelu, layer_norm=fused_layer_norm)
    else:
        backbone.train_with(gelu=exact_gelu, layer_norm=layer_norm)


@tf.custom_gradient
def fused_gelu(x):
    """Computes x Phi(x), with the normal distribution function Phi, in float32.

    Args:
        x: a tensor of floats.

    Returns:
        A tensor of the same shape and type.

    Reference:
        Hendrycks and Gimpel 2016, arXiv:1606.08415, without the approximation.
    """
    # Only the input is kept for the gradient; a tape would keep what lies between, too.
    return _gelu(tf.stop_gradient(x)), lambda upstream: _gelu_gradient(x, upstream)


@tf.function(jit_compile=True, autograph=False)
def _gelu(x):
    exact = tf.cast(x, tf.float32)
    return tf.cast(exact * _phi(exact), x.dtype)


@tf.function(jit_compile=True, autograph=False)
def _gelu_gradient(x, upstream):
    exact = tf.cast(x, tf.float32)
    density = tf.exp(-0.5 * tf.square(exact)) / math.sqrt(2 * math.pi)
    slope = _phi(exact) + exact * density
    return tf.cast(tf.cast(upstream, tf.float32) * slope, x.dtype)


def _phi(x):
    return 0.5 + 0.5 * tf.math.erf(x * math.sqrt(0.5))


def fused_layer_norm(x, gamma, beta, epsilon: float):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts it, in float32.

    Args:
        x: (B, T, D) of floats.
        gamma, beta: (D,).
        epsilon: float. Added to the variance.

    Returns:
        (B, T, D), of the type of `x`.

    Reference:
        Ba et al. 2016, arXiv:1607.06450, equation 4.
    """

    @tf.custom_gradient
    def function(x, gamma, beta):
        inputs = [tf.stop_gradient(each) for each in (x, gamma, beta)]
        return (
            _layer_norm(*inputs, epsilon),
            lambda upstream: _layer_norm_gradient(x, gamma, beta, epsilon, upstream),
        )

    return function(x, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))


@tf.function(jit_compile=True, autograph=False)
def _layer_norm(x, gamma, beta, epsilon):
    normal, _ = _normalize(x, epsilon)
    return tf.cast(normal * tf.cast(gamma, tf.float32) + tf.cast(beta, tf.float32), x.dtype)


@tf.function(jit_compile=True, autograph=False)
def _layer_norm_gradient(x, gamma, beta, epsilon, upstream):
    normal, scale = _normalize(x, epsilon)
    upstream = tf.cast(upstream, tf.float32)
    inner = upstream * tf.cast(gamma, tf.float32)
    outer = inner - _mean(inner) - normal * _mean(inner * normal)
    axes = list(range(x.shape.rank - 1))
    return (
        tf.cast(outer * scale, x.dtype),
        tf.cast(tf.reduce_sum(upstream * normal, axes), gamma.dtype),
        tf.cast(tf.reduce_sum(upstream, axes), beta.dtype),
    )


def _normalize(x, epsilon):
    """Returns the normalised (B, T, D), and what it was scaled by (B, T, 1)."""
    centred = tf.cast(x, tf.float32)
    centred -= _mean(centred)
    scale = tf.math.rsqrt(_mean(tf.square(centred)) + epsilon)
    return centred * scale, scale


def _mean(x):
    return tf.reduce_mean(x, -1, keepdims=True)
