// Wide tables, which the theme wraps when a page is shown, can be scrolled with the keyboard.
document$.subscribe(() =>
  setTimeout(() => document.querySelectorAll(".md-typeset__scrollwrap").forEach((wrap) => (wrap.tabIndex = 0)))
)
