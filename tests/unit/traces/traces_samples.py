"""Samples as tests need them."""

from __future__ import annotations

from flexpie.core.rates import REFERENCE_RATES
from flexpie.traces.samples import ComputeSample, ExchangeSample, Extent


def compute_sample(configuration: str = "c0", device: str = "d0", seconds: float = 1e-3) -> ComputeSample:
    """A 3×3 convolution."""
    return ComputeSample(
        configuration=configuration,
        device=device,
        cpu_share=0.2,
        threads=1,
        rates=REFERENCE_RATES,
        model="resnet18",
        scheme="InH",
        op_type="Conv",
        linked="BatchNormalization+Relu",
        dtype="float32",
        flops=57_802_752,
        bytes_read=348_160,
        bytes_written=200_704,
        weight_bytes=147_456,
        input=Extent(1, 64, 16, 56),
        output=Extent(1, 64, 14, 56),
        kernel_h=3,
        kernel_w=3,
        stride_h=1,
        stride_w=1,
        group=1,
        position=0,
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
        cpu_share=0.2,
        send_seconds=1e-4,
        receive_seconds=1e-4,
        end_seconds_per_byte=1e-9,
        start_seconds=1e-4,
        bandwidth_bytes_per_second=125e6,
        latency_seconds=5e-5,
        sent_messages=1,
        received_messages=1,
        sent_bytes=20_000,
        received_bytes=20_000,
        port_bytes=20_000,
        total_messages=2,
        total_bytes=40_000,
        seconds=seconds,
        seconds_p10=seconds * 0.9,
        seconds_p90=seconds * 1.1,
        repeats=30,
    )
