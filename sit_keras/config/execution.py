"""Where and how a run is carried out. Standard library only."""

import dataclasses

from sit_keras.config.checks import check_choice
from sit_keras.config.fields import check_at_least, normalize_fields

STRATEGIES = ("auto", "one", "mirrored", "multiworker")


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a run is executed, which may change whenever it is resumed.

    The strategy and the micro-batches change rounding and which paths are dropped, no more; `remat`
    changes nothing but time and memory.

    Args:
        strategy: str. `one` device; `mirrored` over the GPUs of this machine; `multiworker` over
            those of several; `auto`: mirrored where there are several GPUs.
        micro_batches: int. See `SiTPretrainer`.
        remat: bool. See `SiTPretrainer`.
        resume: bool. Go on with an unfinished run in the folder; otherwise it is refused.
        on_nan: str. What a loss or gradient that is not finite does: `stop` the run, or `skip`.
            Either way it changes no weight.
        on_full_disk: str. `stop`, or `go_on` without what could not be written.
        on_changed_images: str. What a run that is continued does where its images are not those
            that it was trained on so far: `stop`, or `go_on` with those that are there. Its steps
            and its schedule stay; the images are split anew, so that figures on held-out images may
            include images that it was trained on.
        verbose: bool. Print everything that was measured of each task after an epoch.
    """

    strategy: str = "auto"
    micro_batches: int = 1
    remat: bool = False
    resume: bool = True
    on_nan: str = "stop"
    on_full_disk: str = "stop"
    on_changed_images: str = "stop"
    verbose: bool = False

    def __post_init__(self):
        normalize_fields(self)
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("on_nan", self.on_nan, ("stop", "skip"))
        check_choice("on_full_disk", self.on_full_disk, ("stop", "go_on"))
        check_choice("on_changed_images", self.on_changed_images, ("stop", "go_on"))
        check_at_least(self, 1, "micro_batches")
