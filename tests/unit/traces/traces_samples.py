"""Samples as tests need them."""

from __future__ import annotations

from flexpie.core.rates import REFERENCE_RATES
from flexpie.traces.samples import ComputeSample, ExchangeSample


def compute_sample(configuration: str = "c0", device: str = "d0", seconds: float = 1e-3) -> ComputeSample:
    """A 3×3 convolution."""
    return ComputeSample(
        configuration=configuration,
        device=device,
        cpu_share=0.2,
        threads=1,
        rates=REFERENCE_RATES,
        launch=f"launch of {configuration}",
        model="resnet18",
        scheme="InH",
        place="layer",
        position="inner",
        op_type="Conv",
        work='[["Conv",57802752,348160,200704,147456,[[1,64,16,56]],[[1,64,14,56]],[3,3],[1,1],1,false,"float32",[]]]',
        seconds=seconds,
        seconds_p10=seconds * 0.9,
        seconds_p90=seconds * 1.1,
        repeats=30,
    )


def exchange_sample(configuration: str = "x0", device: str = "d0+d1", seconds: float = 2e-3) -> ExchangeSample:
    """Two devices that send each other 20 kB."""
    return ExchangeSample(
        configuration=configuration,
        device=device,
        pattern="halo",
        topology="mesh",
        devices=2,
        hops=1,
        messages=2,
        total_bytes=40_000,
        most_messages=2,
        most_bytes=40_000,
        physics_seconds=seconds,
        traffic="[[0,20000,0],[20000,0,0],[0,0,0]]",
        cluster="{}",
        seconds=seconds,
        seconds_p10=seconds * 0.9,
        seconds_p90=seconds * 1.1,
        repeats=3,
    )
