// Cells of the list of runs. Every text is a text node: a name is never read as markup.
(function () {
  const make = window.React.createElement;
  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  const KINDS = ["surface", "spectrum", "consistency", "trajectory"];

  cells.RunName = function (props) {
    const run = props.data;
    return make(
      "div",
      { className: "cell-run" },
      make("span", { className: "swatch run-" + run.color, "aria-hidden": "true" }),
      make("a", { href: run.href, className: "name", title: run.name, "data-link": "" }, run.name)
    );
  };

  cells.RunState = function (props) {
    const run = props.data;
    const share = run.progress < 1 ? Math.round(100 * run.progress) + "\u2009%" : "";
    return make(
      "div",
      { className: "cell-state " + run.state },
      make("i", { "aria-hidden": "true" }),
      make("span", null, run.state),
      make("span", { className: "faint" }, share)
    );
  };

  cells.Sparkline = function (props) {
    const run = props.data;
    if (!run.spark) {
      return null;
    }
    // the picture is a mask, painted in the run's color of the theme
    const className = "cell-spark run-" + run.color;
    return make("div", { className: className, style: { maskImage: run.spark } });
  };

  cells.Measured = function (props) {
    return make(
      "div",
      { className: "cell-measured" },
      KINDS.map(function (kind) {
        const told = props.data.measured[kind];
        const label = told || "no " + kind;
        return make("span", {
          key: kind,
          role: "img",
          title: label,
          "aria-label": label,
          className: "icon icon-" + kind + (told ? "" : " missing"),
        });
      })
    );
  };

  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  functions.shown = function (value, digits, percent) {
    if (value === null || value === undefined || Number.isNaN(value)) {
      return "–";
    }
    const scaled = percent ? 100 * value : value;
    const size = Math.abs(scaled);
    const text =
      size !== 0 && (size < 1e-3 || size >= 1e6)
        ? scaled.toExponential(digits - 1).replace("e+", "e")
        : percent
          ? scaled.toFixed(1)
          : size >= 10 ** (digits - 1)
            ? scaled.toFixed(0)
            : scaled.toPrecision(digits);
    return text.replaceAll("-", "\u2212");
  };
})();
