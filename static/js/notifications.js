// News for the bell and, where one has asked for it, notifications of the system.
//
// Every page asks for news at a slow rate, hidden or not: telling somebody who looks elsewhere is what this is for. Of
// all open tabs one asks, the others hear what it was told. A tab that may show notifications takes the browser-wide
// lock before it does, so each is shown once. The permission is asked for on a click in the settings alone.

const EVERY = 20_000; // milliseconds between two questions of a browser
const bell = document.querySelector("[data-bell]");
const prefix = bell && `tuneboard-news-${bell.dataset.user}`;
const channel = bell && "BroadcastChannel" in window ? new BroadcastChannel(prefix) : null;

const kept = {
  get(name) {
    try {
      return localStorage.getItem(`${prefix}-${name}`);
    } catch {
      return null; // storage is switched off in this browser: every tab is on its own
    }
  },
  set(name, value) {
    try {
      if (value === null) localStorage.removeItem(`${prefix}-${name}`);
      else localStorage.setItem(`${prefix}-${name}`, String(value));
    } catch {
      // not kept
    }
  },
};

function possible() {
  return "Notification" in window && window.isSecureContext;
}

function wanted() {
  return possible() && Notification.permission === "granted" && kept.get("shown") === "on";
}

function setCount(unread) {
  const count = bell.querySelector("[data-bell-count]");
  count.hidden = unread === 0;
  count.firstChild.data = unread >= 100 ? "99+" : String(unread);
}

function learn(state) {
  bell.dataset.tag = state.tag;
  bell.dataset.newest = state.newest;
  setCount(state.unread);
}

// -- asking -------------------------------------------------------------------------------------------
async function ask() {
  const now = Date.now();
  const last = Number(kept.get("asked") || 0);
  const known = Number(kept.get("told") || bell.dataset.newest);
  const isBehind = Number(bell.dataset.newest) > known; // this page came with something that nobody has shown
  if (!isBehind && now - last < EVERY * 0.9 && now >= last) return; // another tab has just asked
  kept.set("asked", now);
  const headers = isBehind ? {} : { "HX-Request": "true", "HX-PTag": bell.dataset.tag };
  const response = await fetch(`${bell.dataset.news}?since=${known}`, { headers, redirect: "manual" });
  if (response.type === "opaqueredirect") {
    clearInterval(timer); // signed out
    return;
  }
  if (response.status !== 200) return;
  const state = await response.json();
  learn(state);
  channel?.postMessage(state);
  if (wanted()) await show(state);
  else kept.set("told", state.newest);
}

function question() {
  ask().catch(() => {}); // the server is away: the next question finds it back
}

// -- showing -------------------------------------------------------------------------------------------
async function exclusively(work) {
  if (navigator.locks) await navigator.locks.request(`${prefix}-show`, work);
  else await work();
}

async function show(state) {
  await exclusively(async () => {
    const told = Number(kept.get("told") || bell.dataset.newest);
    for (const item of state.items) {
      if (item.id === 0 ? state.newest > told : item.id > told) notify(item);
    }
    kept.set("told", Math.max(told, state.newest));
  });
}

function notify(item) {
  let shown;
  try {
    shown = new Notification(item.title, {
      body: item.text,
      icon: document.querySelector("link[rel=icon]")?.href,
      tag: `${prefix}-${item.id || "more"}`, // were it shown twice after all, the second replaces the first
    });
  } catch {
    return; // some phones show none without a service worker
  }
  const address = item.id ? `${bell.getAttribute("href")}${item.id}/` : bell.getAttribute("href");
  shown.onclick = () => {
    window.focus();
    shown.close();
    if (!window.open(address, "_blank")) window.location.assign(address);
  };
}

// -- choosing, on the page of settings -------------------------------------------------------------------
function chooser(box) {
  const on = box.querySelector("[data-browser-on]");
  const off = box.querySelector("[data-browser-off]");
  const said = box.querySelector("[data-browser-said]");

  function say() {
    const asked = possible() ? Notification.permission : "impossible";
    on.hidden = asked === "impossible" || asked === "denied" || wanted();
    off.hidden = !wanted();
    said.textContent = {
      impossible:
        "Behind the bell, on every page. This browser shows no notifications of the system for this address: that needs https.",
      denied:
        "Behind the bell, on every page. This browser was told to show no notifications of this address; its settings for the address can change that.",
    }[asked] ??
      (wanted()
        ? "Behind the bell, and as notifications of the system in this browser, while a page of Tuneboard is open, be it in a hidden tab."
        : "Behind the bell, on every page. This browser can also show each as a notification of the system while a page of Tuneboard is open, be it in a hidden tab.");
  }

  on.addEventListener("click", async () => {
    if ((await Notification.requestPermission()) === "granted") {
      kept.set("shown", "on");
      kept.set("told", Math.max(Number(kept.get("told") || 0), Number(bell.dataset.newest)));
      notify({ id: 0, title: "Tuneboard", text: "Here you are told what becomes of your runs." });
    }
    say();
  });
  off.addEventListener("click", () => {
    kept.set("shown", null);
    say();
  });
  say();
}

let timer;
if (bell) {
  channel?.addEventListener("message", (event) => learn(event.data));
  timer = setInterval(question, EVERY);
  question(); // whoever goes from page to page would never wait so long
  // A page that was left for long asks at once when it is seen again.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) question();
  });
  const box = document.querySelector("[data-browser-choice]");
  if (box) chooser(box);
}
