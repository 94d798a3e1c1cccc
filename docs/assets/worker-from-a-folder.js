/* Browsers start no worker from a file, so where pages are opened from a folder the search runs in a hidden frame. */
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.document.open();
      inside.document.write("<body></body>");
      inside.document.close();
      const load = (script) =>
        new Promise((loaded, failed) => {
          const element = inside.document.createElement("script");
          Object.assign(element, { src: script, onload: loaded, onerror: failed });
          inside.document.body.append(element);
        });
      // What a worker's script expects to find; here importScripts gives a promise, for which Material's script waits.
      inside.importScripts = (...scripts) => scripts.reduce((before, one) => before.then(() => load(one)), Promise.resolve());
      inside.postMessage = (data) => this.tell(data);
      this.ready = load(url);
    }
    tell(data) {
      const message = new MessageEvent("message", { data });
      this.dispatchEvent(message);
      this.onmessage?.(message);
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
