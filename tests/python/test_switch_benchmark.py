"""The rule of benchmarks.switch that lets the step of a switch follow the clip."""

from benchmarks.switch import last_under_noise

SIGMAS = [1.0, 0.9, 0.8, 0.5, 0.2, 0.0]
CHOICES = (1, 2, 3, 4)


def test_the_switch_comes_before_the_content_rises_over_the_noise():
    # (1 - σ)² / σ² after 1, 2, 3 and 4 steps: .012, .063, 1, 16.
    assert [last_under_noise(1.0, SIGMAS, CHOICES, factor) for factor in (0.02, 0.5, 1.0, 20.0)] == [1, 2, 3, 4]
    assert last_under_noise(1.0, SIGMAS, CHOICES, 0.001) == 1


def test_a_clip_with_more_content_switches_earlier():
    found = [last_under_noise(power, SIGMAS, CHOICES, 0.5) for power in (0.01, 0.4, 4.0, 40.0)]
    assert found == [4, 3, 2, 1]
