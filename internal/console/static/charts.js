// Charts of the last hour: requests and errors a second on the left scale, open
// sockets on the right one. uPlot draws them.
const plots = new Map(); // element → uPlot

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function draw(element, chart) {
  const data = [chart.Times, chart.Requests, chart.Errors, chart.Sockets];
  element.setAttribute("aria-label", chart.Said);
  const known = plots.get(element);
  if (known) {
    known.setData(data);
    return;
  }
  element.dataset.drawn = "";
  const make = () => {
    plots.get(element)?.destroy();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const most = (least) => (_, __, max) => [0, Math.max(least, max * 1.15)];
    plots.set(element, new uPlot({
      width: element.clientWidth, height: 150,
      padding: [8, 4, 0, 4],
      cursor: { points: { size: 6 }, y: false },
      legend: { live: true, markers: { width: 0, fill: (u, i) => u.series[i].stroke() } },
      scales: { rate: { range: most(1) }, sockets: { range: most(4) } },
      axes: [
        { ...axis, space: 70, size: 26, values: [[600, "{HH}:{mm}"], [60, "{HH}:{mm}"], [1, "{HH}:{mm}:{ss}"]] },
        { ...axis, scale: "rate", size: 38, space: 36 },
        { ...axis, scale: "sockets", side: 1, grid: { show: false }, size: 42, space: 36 },
      ],
      series: [
        { label: "at", value: "{HH}:{mm}:{ss}" },
        { label: "requests/s", scale: "rate", stroke: colour("--c0"), width: 1.5, fill: colour("--c0") + "22", value: (_, v) => v?.toFixed(1) ?? "" },
        { label: "errors/s", scale: "rate", stroke: colour("--bad"), width: 1.5, value: (_, v) => v?.toFixed(1) ?? "" },
        { label: "sockets", scale: "sockets", stroke: colour("--c2"), width: 1.5, value: (_, v) => v ?? "" },
      ],
    }, plots.get(element)?.data ?? data, element));
  };
  make();
  new ResizeObserver(() => plots.get(element)?.setSize({ width: element.clientWidth, height: 150 })).observe(element);
  addEventListener("theme", make);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", make);
}
