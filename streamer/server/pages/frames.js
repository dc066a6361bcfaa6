// Work that is done once in a frame, however often it is asked for.

/**
 * A function that asks for work in the next frame. The first call in a frame runs `begin`, and the frame runs what that
 * returns; further calls change nothing.
 */
export function onceAFrame(begin) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    const work = begin();
    requestAnimationFrame(() => {
      isDue = false;
      work();
    });
  };
}
