"""The page of the explorer in a browser: when it has loaded, how it is dragged, and what it shows."""

from __future__ import annotations

from tests.helpers.browser import Tab

LOADED = """document.querySelector('.run') !== null && [...document.querySelectorAll('.run')].every(run =>
  ['decoded-text', 'input-text', 'plane-text', 'units-text'].every(
    name => run.querySelector(`[data-part=${name}]`).textContent !== ''))"""
"""Whether a page of models with two or more latents is complete."""

WATCH = """(() => {
  const canvas = document.querySelector('[data-part=decoded]');
  const read = () => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.join();
  window.delays = [];
  if (window.watched) return;
  window.watched = true;
  let shown = read();
  window.addEventListener('pointermove', event => {
    const look = () => {
      const now = read();
      if (now !== shown) { shown = now; window.delays.push(performance.now() - event.timeStamp); }
      else if (performance.now() - event.timeStamp < 5000) requestAnimationFrame(look);
    };
    look();
  }, true);
})()"""
"""Notes how long after each movement of the mouse the pixels of the picture are others, in milliseconds."""

SECONDS_OF_A_MOVE = 5


def pause(tab: Tab) -> None:
    """Let requests that were made be answered."""
    tab.run("new Promise(done => setTimeout(done, 400))")


def drag(tab: Tab, selector: str, moves: int) -> list[float]:
    """Press the mouse in the middle of an element, move it within the element, and release it.

    Returns:
        The time from each movement to the changed picture, in milliseconds.
    """
    box = tab.box(selector)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse("mousePressed", x, y, held=True)
    pause(tab)
    tab.run(WATCH)
    for move in range(1, moves + 1):
        turn = move % 40 if move % 40 <= 20 else 40 - move % 40  # to and fro, so that it stays on the element
        tab.mouse("mouseMoved", x + 4 * turn + move / 100, y - 3 * turn, held=True)
        tab.run(
            f"new Promise(done => {{ const look = () => window.delays.length >= {move} ? done() : setTimeout(look, 5); "
            f"look(); setTimeout(done, {1000 * SECONDS_OF_A_MOVE}); }})"
        )
    tab.mouse("mouseReleased", x, y, held=False)
    delays: list[float] = tab.run("window.delays")
    return delays


def loaded_bytes(tab: Tab) -> int:
    """Return the bytes that the page has loaded."""
    entries = "...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')"
    return int(tab.run(f"[{entries}].reduce((sum, entry) => sum + entry.transferSize, 0)"))
