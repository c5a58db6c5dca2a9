// Sends files one after the other by the tus protocol (static/vendor/tus): a connection that breaks is taken up
// again where it stopped, and so is a file that is chosen again after the page was closed.
/* global tus */

const RETRY_DELAYS = [0, 500, 1000, 2000, 4000, 8000, 15000, 30000, 30000, 30000];  // begins anew once bytes move
const RATE_SECONDS = 5;  // the rate is that of the last seconds: what came before a reload took no time

/** What one sees while files are sent: {file, bytes sent of it, bytes sent of all, bytes per second}. */
export class Sending {
  constructor({ endpoint, csrf, files, onProgress, onWaiting, onAgain }) {
    Object.assign(this, { endpoint, csrf, files, onProgress, onWaiting, onAgain });
    this.total = files.reduce((sum, file) => sum + file.size, 0);
    this.before = 0;  // bytes of the files that are whole
    this.addresses = [];
    this.stopped = false;
    this.moments = [];
  }

  /** Addresses of the uploads, in the order of the files. Throws an Error whose message a person can read. */
  async all() {
    for (const file of this.files) {
      this.addresses.push(await this.one(file));
      this.before += file.size;
    }
    return this.addresses;
  }

  /** Stop, and have the server drop what has arrived. */
  async cancel() {
    this.stopped = true;
    this.reject?.(new Error("cancelled"));
    const going = this.current ? [this.current.abort(true)] : [];
    const whole = this.addresses.map((address) => tus.Upload.terminate(address, { headers: this.headers(), retryDelays: null }));
    await Promise.allSettled([...going, ...whole]);
  }

  headers() {
    return { "X-CSRFToken": this.csrf };
  }

  one(file) {
    return new Promise((resolve, reject) => {
      this.reject = reject;
      const upload = new tus.Upload(file, {
        endpoint: this.endpoint,
        headers: this.headers(),
        metadata: { filename: file.name },
        retryDelays: RETRY_DELAYS,
        onProgress: (sent) => this.moved(file, sent),
        onShouldRetry: (error) => {
          const status = error.originalResponse?.getStatus() ?? 0;
          const again = !this.stopped && (status < 400 || status >= 500 || status === 409 || status === 423);
          if (again) { this.moments = []; this.onWaiting(); }
          return again;
        },
        onError: (error) => {
          if (this.stopped) return;
          if (error.originalResponse?.getStatus()) reject(new Error(reason(error)));
          else this.whenOnline(() => upload.start(), reject);
        },
        onSuccess: () => resolve(upload.url),
      });
      this.current = upload;
      upload.findPreviousUploads().then((previous) => {
        if (this.stopped) return;
        if (previous.length) {
          upload.resumeFromPreviousUpload(previous.at(-1));
          this.onAgain(file, previous.at(-1).uploadUrl);
        }
        upload.start();
      }, reject);
    });
  }

  moved(file, sent) {
    const now = performance.now() / 1000, all = this.before + sent;
    this.moments.push([now, all]);
    while (this.moments.length > 2 && this.moments[0][0] < now - RATE_SECONDS) this.moments.shift();
    const [since, then] = this.moments[0];
    this.onProgress({ file, sent, all, total: this.total, rate: now > since ? (all - then) / (now - since) : NaN });
  }

  /** All tries were in vain: go on when the network is back, or give up if the browser thinks it is there. */
  whenOnline(goOn, reject) {
    if (navigator.onLine) {
      reject(new Error("The server cannot be reached. What has arrived is kept: press Upload to go on."));
      return;
    }
    window.addEventListener("online", () => { if (!this.stopped) goOn(); }, { once: true });
  }
}

/** The server's own sentence if it gave one. */
function reason(error) {
  const answer = error.originalResponse;
  if (answer.getUnderlyingObject?.()?.responseURL?.includes("/sign-in/")) {
    return "You are signed out. Sign in in another tab, then press Upload here: what has arrived is kept.";
  }
  try {
    return JSON.parse(answer.getBody()).error.message;
  } catch {
    return `The server answered ${answer.getStatus()}. What has arrived is kept: press Upload to try again.`;
  }
}

/** Whether the browser can do all this. */
export function canResume() {
  return typeof tus !== "undefined" && tus.isSupported;
}

/** Uploads of these addresses became a dataset: the browser need not remember them. */
export async function forget(addresses) {
  const remembered = await tus.defaultOptions.urlStorage.findAllUploads();
  for (const each of remembered) {
    if (addresses.includes(each.uploadUrl)) await tus.defaultOptions.urlStorage.removeUpload(each.urlStorageKey);
  }
}
