// A log that grows while one looks: only what is new is asked for, and it is added below.
// [data-log] is a <pre> with the last lines (page of a run) or an <ol> with numbers (page of the log).

const POLL = 1000; // ms; with the worker's half second, a line is seen within two seconds
const MOST = { PRE: 400, OL: 3000 }; // lines on the page; the oldest go

class Log {
  constructor(element) {
    this.element = element;
    this.numbered = element.tagName === "OL";
    this.unfinished = element.querySelector("[data-log-unfinished]");
    ({ logUrl: this.url, logSince: this.since, logAttempt: this.attempt, logTag: this.tag } = element.dataset);
    this.host = element.dataset.logHost ? `&host=${element.dataset.logHost}` : ""; // of a run on several
    this.toggle = document.querySelector("[data-log-toggle]");
    this.following = true;
    if (this.toggle) {
      this.toggle.hidden = false;
      this.toggle.addEventListener("click", () => this.follow(!this.following));
    }
    // Whoever scrolls up wants to read; whoever comes back to the end wants to go on.
    element.addEventListener("scroll", () => this.follow(this.atEnd, false), { passive: true });
    element.closest("details")?.addEventListener("toggle", () => this.following && this.toEnd());
    if (!location.hash) this.toEnd();
    this.timer = setTimeout(() => this.poll(), POLL);
    document.addEventListener("visibilitychange", () => !document.hidden && this.soon(0));
    // Nobody reads what is not on the screen: it is brought up to date when it comes into view.
    this.inView = false;
    new IntersectionObserver(([entry]) => {
      this.inView = entry.isIntersecting;
      if (this.inView) this.soon(0);
    }, { rootMargin: "200px" }).observe(element);
  }

  get atEnd() {
    return this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 40;
  }

  follow(on, scroll = true) {
    this.following = on;
    this.toggle?.setAttribute("aria-pressed", String(on));
    if (on && scroll) this.toEnd();
  }

  toEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  soon(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), wait);
  }

  async poll() {
    if (!this.element.isConnected || this.over) return;
    let wait = POLL;
    if (!document.hidden && this.inView) {
      try {
        const response = await fetch(`${this.url}?attempt=${this.attempt}${this.host}&since=${this.since}`, {
          headers: { "HX-Request": "true", "HX-PTag": this.tag },
          cache: "no-store",
        });
        if (response.redirected) return; // signed out
        if (response.status === 200) {
          this.show(await response.json());
          this.tag = response.headers.get("HX-PTag");
        } else if (response.status !== 304) wait = 5 * POLL;
      } catch {
        wait = 5 * POLL; // the server is away; what was missed comes with the next answer
      }
    }
    this.soon(wait);
  }

  show(found) {
    if (String(found.attempt) !== this.attempt && found.attempt) {
      for (const child of [...this.element.childNodes]) if (child !== this.unfinished) child.remove();
      this.attempt = String(found.attempt);
    }
    const following = this.following;
    for (const [number, text] of found.lines) this.unfinished.before(this.line(number, text));
    if (this.numbered) this.unfinished.lastElementChild.textContent = found.unfinished;
    else this.unfinished.textContent = found.unfinished;
    let extra = this.element.children.length - 1 - MOST[this.element.tagName];
    for (; extra > 0; extra -= 1) this.element.firstElementChild.remove();
    if (found.lines.length) this.element.querySelector("[data-log-nothing]")?.remove();
    this.range(found.lines.at(-1)?.[0]);
    this.since = String(found.next);
    this.over = found.over;
    if (following) this.toEnd();
  }

  line(number, text) {
    if (!this.numbered) {
      const line = document.createElement("span");
      line.textContent = `${text}\n`;
      return line;
    }
    const line = document.createElement("li");
    const content = document.createElement("span");
    content.textContent = text;
    if (number) {
      const link = document.createElement("a");
      link.className = "log-number";
      link.href = `?attempt=${this.attempt}${this.host}&line=${number}#L${number}`;
      link.textContent = number;
      line.id = `L${number}`;
      line.append(link);
    } else line.className = "log-gap";
    line.append(content);
    return line;
  }

  range(last) {
    const range = document.querySelector("[data-log-range]");
    const first = this.element.querySelector("li[id]")?.id.slice(1);
    if (range && first && last) {
      range.textContent = `Lines ${Number(first).toLocaleString("en")}–${Number(last).toLocaleString("en")}`;
    }
  }
}

// The last lines of a run that failed: what counts is at the end.
function showEnds() {
  for (const element of document.querySelectorAll("[data-log-end]")) element.scrollTop = element.scrollHeight;
}

for (const element of document.querySelectorAll("[data-log]")) new Log(element);
showEnds();
document.addEventListener("htmx:after:swap", showEnds);
