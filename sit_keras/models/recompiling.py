"""Models that are compiled again, when they are loaded or cloned, as they were asked to be."""

import typing

import keras

# Keras gives a functional model another base class, which must not happen to that of this one.
_Model: typing.Any = keras.Model if typing.TYPE_CHECKING else object
_ASKED = ("jit_compile", "auto_scale_loss")


class RemembersCompile(_Model):
    """A part of a `keras.Model` whose `compile` chooses what it was not given.

    Keras keeps what it has made of `jit_compile="auto"` on the device of the moment, as if that had
    been asked for, and nothing of `auto_scale_loss`.
    """

    def compile(self, **settings):
        self._asked = {name: settings[name] for name in _ASKED if name in settings}
        super().compile(**settings)

    def get_compile_config(self) -> dict[str, typing.Any]:
        config = super().get_compile_config()
        return config and {**config, "jit_compile": "auto", **self._asked}

    def compile_from_config(self, config: dict[str, typing.Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)
