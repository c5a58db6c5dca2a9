// Keeps times that stand on a page right between polls.
//   <time data-ago datetime="…">        3 min ago
//   <time data-elapsed datetime="…">    how long since then
//   <time data-until datetime="…">      how long until then; "soon" once it has passed
// The formats are those of webapp/templatetags/ui.py.

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const days = Math.floor(whole / 86400);
  const hours = Math.floor((whole % 86400) / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes) return `${minutes} min ${whole % 60} s`;
  return `${whole} s`;
}

function ago(seconds) {
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function tick() {
  if (document.hidden) return;
  for (const time of document.querySelectorAll("time[data-ago], time[data-elapsed], time[data-until]")) {
    const passed = (Date.now() - new Date(time.dateTime)) / 1000;
    let text;
    if ("elapsed" in time.dataset) text = duration(passed);
    else if ("until" in time.dataset) text = passed < 0 ? duration(-passed) : "soon";
    else if (passed < 7 * 86400) text = ago(passed);
    if (text && time.textContent !== text) time.textContent = text;
  }
}

setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
