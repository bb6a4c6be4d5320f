"""Things that wait, done at once: together they take as long as the one that waits longest."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor


def side_by_side(cases: Mapping[str, Callable[[], None]]) -> None:
    """Call each in a thread of its own, and wait for all. Raises ExceptionGroup of what any has raised."""
    with ThreadPoolExecutor(max_workers=len(cases)) as pool:
        running = {name: pool.submit(case) for name, case in cases.items()}
    raised = []
    for name, future in running.items():
        error = future.exception()
        if error is not None:
            error.add_note(f"in {name}")
            raised.append(error)
    if raised:
        raise BaseExceptionGroup("some of what ran side by side", raised)
