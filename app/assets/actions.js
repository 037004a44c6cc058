// Buttons that need no server: copying, full screen, the first view of a 3D scene, menus.
(function () {
  function copied(button) {
    button.classList.add("done");
    window.setTimeout(() => button.classList.remove("done"), 1200);
  }

  function write(text, button) {
    if (navigator.clipboard) {
      navigator.clipboard.writeText(text).then(() => copied(button));
    }
  }

  const actions = {
    "copy-link": (button) => write(window.location.href, button),
    expand: function (button) {
      const pane = button.closest(".pane");
      if (document.fullscreenElement) {
        document.exitFullscreen();
      } else if (pane.requestFullscreen) {
        pane.requestFullscreen();
      }
    },
    home: function (button) {
      const graph = button.closest(".pane").querySelector(".js-plotly-plot");
      if (graph && button.dataset.home) {
        window.Plotly.relayout(graph, { "scene.camera": JSON.parse(button.dataset.home) });
      }
    },
  };

  document.addEventListener("click", function (event) {
    for (const menu of document.querySelectorAll("details.drop[open]")) {
      if (!menu.contains(event.target) || event.target.closest("a")) {
        menu.open = false;
      }
    }
    const link = event.target.closest("a[data-link]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      window.history.pushState({}, "", link.getAttribute("href"));
      window.dispatchEvent(new PopStateEvent("popstate"));
      return;
    }
    const button = event.target.closest("button");
    if (!button) {
      return;
    }
    if (button.dataset.copy !== undefined) {
      write(button.dataset.copy, button);
    } else if (actions[button.dataset.action]) {
      actions[button.dataset.action](button);
    }
  });

  // A toolbar that is drawn anew keeps the keyboard's place in it.
  const CONTROLS = ".toolbar [aria-label], .toolbar a";
  let kept = null;

  document.addEventListener("focusin", function (event) {
    const control = event.target.closest(CONTROLS);
    kept = control && {
      element: control,
      name: control.getAttribute("aria-label"),
      text: control.textContent,
    };
  });

  new MutationObserver(function () {
    if (!kept || kept.element.isConnected || document.activeElement !== document.body) {
      return;
    }
    const again = [...document.querySelectorAll(CONTROLS)].find(
      (control) =>
        control.getAttribute("aria-label") === kept.name &&
        (kept.name || control.textContent === kept.text)
    );
    if (again) {
      again.focus();
    }
  }).observe(document.documentElement, { childList: true, subtree: true });

  document.addEventListener("fullscreenchange", function () {
    window.dispatchEvent(new Event("resize"));
  });
})();
