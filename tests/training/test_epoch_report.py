"""What a training shows of its epochs: widths, speed, time left, and what is not read."""

import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

import sit_keras
from sit_keras.config import progress
from sit_keras.config.checks import TASKS
from sit_keras.training import epoch_report
from sit_keras.training.epoch_report import EpochReport


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(epoch_report.time, "monotonic", lambda: now[0])
    return now


class Waiting:
    seconds = 0.0


def report_of(steps, epochs, tasks=TASKS, **settings):
    report = EpochReport(epochs, **settings)
    report.set_model(types.SimpleNamespace(tasks=tasks))
    report.set_params({"steps": steps})
    return report


def logs_of(loss=5.161, accuracy=0.48, **others):
    logs = {"loss": loss, "knn_accuracy": 0.459}
    for task in TASKS:
        logs |= {task: 0.38, f"val_{task}": 0.391, f"weight_{task}": 1.0, f"share_{task}": 0.5,
                 f"alpha_{task}": 1.0}  # fmt: skip
    return logs | {f"{task}_accuracy": accuracy for task in TASKS[1:]} | others


def epoch_of(report, clock, epoch, steps, first=1.0, each=1.0, end=0.0, logs=None):
    """One epoch in which the first step and each of the others take so many seconds."""
    report.on_epoch_begin(epoch)
    for step in range(steps):
        clock[0] += first if step == 0 else each
        report.on_train_batch_end(step, {"loss": 5.0})
    clock[0] += end
    report.on_epoch_end(epoch, logs or logs_of())


def test_a_line_of_an_epoch_has_its_losses_speed_and_time_left(clock, capsys):
    report = report_of(10, 100, batch_size=32)
    epoch_of(report, clock, 5, 10, first=30.0, each=2.0)
    _, line = capsys.readouterr().out.splitlines()
    # 94 epochs of ten steps of two seconds each: without the 30 seconds that compile.
    assert line == (
        "epoch   6/100 | loss 5.161  rec 0.380  rot 48%  con 48%  kNN 45.9% | 16.0 images/s | "
        "ETA 31:20"
    )


@pytest.mark.parametrize("batch_size, each", [(4096, 0.001), (2, 30.0), (None, 1e-4)])
def test_no_line_is_wider_than_a_hundred_columns(clock, capsys, batch_size, each):
    report = report_of(1000, 1000, batch_size=batch_size, verbose=True)
    extreme = logs_of(loss=-12345.678, accuracy=1.0, knn_accuracy=1.0, reconstruction=12345.6)
    report.on_epoch_begin(0)
    for step in range(3):
        clock[0] += each
        report.on_train_batch_end(step, {"loss": -12345.678})
    lines = [report._text()]
    report.on_epoch_end(0, extreme)
    lines += capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert ("images/s" if batch_size else "steps/s") in lines[0]
    assert "ETA" in lines[0] and "ETA" in lines[-len(TASKS) - 1]


def test_verbose_adds_all_that_was_measured_of_each_task(clock, capsys):
    for verbose, count in ((False, 1), (True, 4)):
        report = report_of(2, 2, verbose=verbose)
        epoch_of(report, clock, 0, 2)
        lines = capsys.readouterr().out.splitlines()[1 + verbose :]
        assert len(lines) == count
    rotation = lines[1 + TASKS.index("rotation")]
    assert rotation.split("  ")[-6:] == [
        "loss 0.380", "held out 0.391", "right 48.0%", "alpha 1.00", "weight 1.00", "gradient 50%",
    ]  # fmt: skip


def test_what_was_not_measured_is_left_out(clock, capsys):
    report = report_of(2, 2, tasks=("rotation",), verbose=True)
    nothing = logs_of(knn_accuracy=np.nan, share_rotation=np.nan, val_rotation=np.nan)
    epoch_of(report, clock, 0, 2, logs=nothing)
    text = capsys.readouterr().out
    assert not any(word in text for word in ("kNN ", "nan", "gradient 5", "held out", "con "))


def test_the_state_within_an_epoch_has_the_speed_the_waiting_the_loss_and_the_time_left(clock):
    wait = Waiting()
    report = report_of(100, 3, batch_size=8, wait=wait)
    report.on_epoch_begin(0)
    clock[0], wait.seconds = 60.0, 20.0  # compiling and filling the pipeline count for nothing
    assert report._text() == "epoch 1/3 | the first step is on its way, 1:00 so far"
    report.on_train_batch_end(0, {"loss": 6.0})
    assert report._text() == "epoch 1/3 | step 1 of 100 | loss 6.000"
    for step in range(1, 11):
        clock[0] += 0.5
        wait.seconds += 0.1
        report.on_train_batch_end(step, {"loss": 5.25})
    assert report._text() == (  # 89 + 200 steps of half a second
        "epoch 1/3 | step 11 of 100 | 16.0 images/s | waits for data 20% | loss 5.250 | ETA 2:24"
    )


def test_the_time_left_has_what_lies_between_epochs_but_not_the_first_time(clock, capsys):
    report = report_of(10, 4, batch_size=1)
    for epoch, end in enumerate((100.0, 5.0, 5.0)):
        epoch_of(report, clock, epoch, 10, end=end)
    *_, second, third = capsys.readouterr().out.splitlines()
    assert second.endswith("ETA 0:20")  # two epochs of ten seconds: no later end is known yet
    assert third.endswith("ETA 0:15")


def test_the_rest_of_an_interrupted_epoch_is_no_measure_of_whole_ones(clock, capsys):
    report = report_of(3, 2, steps_per_epoch=100)
    epoch_of(report, clock, 0, 3)
    assert capsys.readouterr().out.endswith("ETA 1:40\n")


def test_epochs_of_one_step_have_a_speed_from_the_second_on(clock, capsys):
    report = report_of(1, 3, batch_size=16)
    for epoch in range(3):
        epoch_of(report, clock, epoch, 1, first=2.0)
    _, first, second, third = capsys.readouterr().out.splitlines()
    assert "/s" not in first and "ETA" not in first
    assert "8.00 images/s" in second and second.endswith("ETA 0:02") and third.endswith("ETA 0:00")


def test_no_step_reads_a_loss(clock):
    """Which would make the host wait for the device."""

    class Loss:
        def __float__(self):
            raise AssertionError("read")

    report = report_of(10, 1)
    report.on_epoch_begin(0)
    for step in range(10):
        report.on_train_batch_end(step, {"loss": Loss()})


def test_a_line_lives_within_epochs_and_ends_with_an_error(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    report = report_of(2, 1, batch_size=4)
    with pytest.raises(ArithmeticError), report.live():
        report.on_epoch_begin(0)
        for step in range(2):
            time.sleep(0.05)
            report.on_train_batch_end(step, {"loss": 5.0})
        time.sleep(0.05)  # the steps are done
        written = capsys.readouterr().err
        assert "epoch 1/1 | step 1 of 2" in written and "step 2 of 2" not in written
        report.on_epoch_begin(1)
        raise ArithmeticError
    assert progress.LiveLine._shown is None
    report.on_epoch_begin(2)  # without `live` nothing is shown
    assert progress.LiveLine._shown is None and not sys.stderr.isatty()


def test_an_epoch_of_unknown_length_tells_the_time_left_to_the_next_one(clock, capsys):
    report = report_of(None, 3, batch_size=8)
    report.on_epoch_begin(0)
    for step in range(5):
        clock[0] += 0.5
        report.on_train_batch_end(step, {"loss": 5.0})
    assert report._text() == "epoch 1/3 | step 5 | 16.0 images/s | loss 5.000"
    report.on_epoch_end(0, logs_of())
    assert capsys.readouterr().out.endswith("16.0 images/s | ETA 0:05\n")  # 10 steps
    report.on_epoch_begin(1)
    clock[0] += 0.5
    report.on_train_batch_end(0, {"loss": 5.0})
    assert report._text().startswith("epoch 2/3 | step 1 of 5 |")
    assert report._text().endswith("ETA 0:04")  # 9 steps


def test_an_execution_of_several_steps_counts_them(clock, capsys):
    """As Keras calls it: by the last step of each execution, of which the last has fewer."""
    report = report_of(10, 2, batch_size=8)
    report.on_epoch_begin(0)
    for last in (3, 7, 11):
        clock[0] += 2.0
        report.on_train_batch_end(last, {"loss": 5.0})
        if last == 7:
            assert (
                report._text() == "epoch 1/2 | step 8 of 10 | 16.0 images/s | loss 5.000 | ETA 0:06"
            )
    report.on_epoch_end(0, logs_of())
    # Six steps in four seconds after the first four steps, and ten to go.
    assert capsys.readouterr().out.endswith("12.0 images/s | ETA 0:07\n")


def test_a_dataset_of_unknown_length_is_reported(capsys):
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([images] * 4), output_signature=tf.TensorSpec((8, 8, 8, 3), tf.uint8)
    )
    model = sit_keras.SiTPretrainer(sit_keras.SiTBackbone((8, 8, 3), 4, 12, 1, 2, 12))
    model.compile("sgd", jit_compile=False, steps_per_execution=2)
    report = EpochReport(epochs=2)
    with report.live():
        model.fit(dataset, epochs=2, verbose=0, callbacks=[report])
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.startswith("epoch 1/2") and "ETA" in first
    assert second.startswith("epoch 2/2") and second.endswith("ETA 0:00")
