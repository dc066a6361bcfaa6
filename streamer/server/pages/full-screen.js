// Full screen: the captions alone. Where a browser has no full screen, as on an iPhone, they cover the page.

/** Let `enter` and `leave` (buttons) switch; `onChange` is called when the captions have a new size. */
export function fullScreen(enter, leave, onChange) {
  const root = document.documentElement;
  const show = (isFull) => {
    root.toggleAttribute("data-full", isFull);
    leave.hidden = !isFull;
    (isFull ? leave : enter).focus({ preventScroll: true });
    onChange();
  };
  enter.onclick = async () => {
    await root.requestFullscreen?.().catch(() => {});
    show(true);
  };
  leave.onclick = async () => {
    if (document.fullscreenElement) await document.exitFullscreen();
    else show(false);
  };
  document.addEventListener("fullscreenchange", () => { if (!document.fullscreenElement) show(false); });
  addEventListener("keydown", ({ key }) => { if (key === "Escape" && root.hasAttribute("data-full") && !document.fullscreenElement) show(false); });
}
