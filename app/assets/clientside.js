// Callbacks that run in the browser: theme, address bar, drawer, selection of runs.
(function () {
  const SCHEME = "data-mantine-color-scheme";
  const unchanged = () => window.dash_clientside.no_update;

  function withParameter(search, name, value) {
    const parameters = new URLSearchParams(search || "");
    if (value === null) {
      parameters.delete(name);
    } else {
      parameters.set(name, value);
    }
    const text = parameters.toString().replaceAll("%2C", ",");
    return text ? "?" + text : "";
  }

  function sameIds(first, second) {
    return first.length === second.length && first.every((id) => second.includes(id));
  }

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.landscape = {
    theme: function (clicks) {
      const root = document.documentElement;
      let scheme = root.getAttribute(SCHEME) === "dark" ? "dark" : "light";
      if (clicks) {
        scheme = scheme === "dark" ? "light" : "dark";
        root.setAttribute(SCHEME, scheme);
        try {
          window.localStorage.setItem("mantine-color-scheme-value", scheme);
        } catch (refused) {
          // private windows may refuse; the theme then lasts as long as the page
        }
      }
      return [scheme, scheme];
    },

    // The options of a field are addresses: choosing one goes there.
    go: function () {
      for (const change of window.dash_clientside.callback_context.triggered) {
        const id = JSON.parse(change.prop_id.slice(0, change.prop_id.lastIndexOf(".")));
        const here = window.location.pathname + window.location.search;
        if (change.value && change.value !== id.at && change.value !== here) {
          return change.value;
        }
      }
      return unchanged();
    },

    step: function (values, search) {
      if (!values.length || values[0] === null || values[0] === undefined) {
        return unchanged();
      }
      const slider = document.querySelector(".slider [role=slider]");
      const last = slider ? Number(slider.getAttribute("aria-valuemax")) : null;
      const now = new URLSearchParams(search || "").get("step");
      const wanted = values[0] === last ? null : String(values[0]);
      if (wanted === now) {
        return unchanged();
      }
      return withParameter(search, "step", wanted);
    },

    follow: function (search) {
      const slider = document.querySelector(".slider [role=slider]");
      if (!slider) {
        return window.dash_clientside.callback_context.outputs_list.map(unchanged);
      }
      const now = new URLSearchParams(search || "").get("step");
      const value = now === null ? Number(slider.getAttribute("aria-valuemax")) : Number(now);
      return window.dash_clientside.callback_context.outputs_list.map(() => value);
    },

    drawer: function (clicks, mounted) {
      const context = window.dash_clientside.callback_context;
      const there = Boolean(mounted && mounted.inspector);
      const pressed = context.triggered_id === "drawer-button";
      const open = there && pressed && !document.body.classList.contains("drawer-open");
      document.body.classList.toggle("drawer-open", open);
      document.body.classList.toggle("no-inspector", !there);
      return {
        width: 300,
        breakpoint: "lg",
        collapsed: { desktop: !there, mobile: !open },
      };
    },

    title: function (mounted) {
      if (mounted) {
        document.title = mounted.title + " · Landscape";
      }
    },

    // The list of runs: the ticked rows stand in the address, and the address ticks rows.
    select: function (rows, search, usual) {
      const now = new URLSearchParams(search || "").get("select");
      const wanted = now === null ? usual : now.split(",").filter(Boolean);
      const ids = Array.isArray(rows) ? rows.map((row) => row.id) : null;
      if (!ids || sameIds(ids, wanted)) {
        return unchanged();
      }
      return withParameter(search, "select", sameIds(ids, usual) ? null : ids.join(","));
    },

    tick: function (search, rows, usual) {
      const now = new URLSearchParams(search || "").get("select");
      const wanted = now === null ? usual : now.split(",").filter(Boolean);
      const ids = Array.isArray(rows) ? rows.map((row) => row.id) : (rows || {}).ids || [];
      return sameIds(ids, wanted) ? unchanged() : { ids: wanted };
    },

    inspect: function (cell, search) {
      const left = !["/", "/runs"].includes(window.location.pathname);
      if (left || !cell || !cell.rowId || new URLSearchParams(search || "").get("run") === cell.rowId) {
        return unchanged();
      }
      return withParameter(search, "run", cell.rowId);
    },

    filter: function (text, options) {
      return { ...options, quickFilterText: text || "" };
    },
  };
})();
