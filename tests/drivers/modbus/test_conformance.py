"""The Modbus driver passes the suite that every driver must, over TCP and over a terminal."""

from drivers import conformance

POINTS = {
    "a": {"holding": 0},
    "b": {"input": 5, "type": "float32"},
    "c": {"coil": 3},
    "d": {"holding": 50, "every": "2s"},
}


async def test_it_opens_and_closes_on_both_wires(tcp, rtu):
    """Twice, and without being opened."""
    await conformance.opens_and_closes(lambda: tcp(POINTS))
    await conformance.opens_and_closes(lambda: rtu(POINTS))


async def test_its_frames_fit_their_layouts_on_both_wires(tcp, rtu):
    """Good throughout."""
    await conformance.answers_fit(lambda: tcp(POINTS))
    await conformance.answers_fit(lambda: rtu(POINTS))


async def test_its_frames_fit_with_refusals_in_them(tcp, slave):
    """Partly bad."""
    slave.refused = {50: 2, 0: 4}
    await conformance.answers_fit(lambda: tcp(POINTS))


async def test_a_dead_end_is_link_down_on_both_wires(tcp, rtu, slave):
    """A port nobody listens on, a device that is not there."""
    slave.port = 1
    await conformance.dead_end_is_link_down(lambda: tcp(POINTS))
    await conformance.dead_end_is_link_down(lambda: rtu(POINTS, port="/dev/no-such-port"))


async def test_a_cut_connection_is_link_down(tcp, slave):
    """The far end hangs up."""

    async def cut():
        for writer in slave.connections:
            writer.transport.abort()

    await conformance.lost_link_is_link_down(lambda: tcp(POINTS), cut)


async def test_a_pulled_adapter_is_link_down(rtu, slave):
    """The terminal goes away."""

    async def cut():
        slave.unplug()

    await conformance.lost_link_is_link_down(lambda: rtu(POINTS), cut)


async def test_cancellation_frees_the_port_on_both_wires(tcp, rtu):
    """Wherever it strikes."""
    await conformance.cancellation_frees_the_port(lambda: tcp(POINTS))
    await conformance.cancellation_frees_the_port(lambda: rtu(POINTS))
