// The embedded flow of Finch Connect: the employer never leaves the page.
//
//   <form method="post" action="/connect"><button>Connect payroll</button></form>
//   <script src="https://prod-cdn.tryfinch.com/latest/connect.js" defer></script>
//   <script src="/connect.js" data-callback="/finch/callback" defer></script>
//
// If one of the scripts does not load, the same form begins the redirect flow.
"use strict";

(() => {
  const form = document.querySelector("form[action$='/connect']");
  if (!form || !window.FinchConnect) return;

  const button = form.querySelector("button");
  const callback = new URL(document.currentScript.dataset.callback, form.action);
  const message = form.appendChild(document.createElement("output"));
  const waitLimit = 120, usualPause = 2; // seconds
  let connect = null;

  const pause = seconds => new Promise(done => setTimeout(done, seconds * 1000));

  function show(text, { busy = false } = {}) {
    message.textContent = text;
    button.disabled = busy;
  }

  // The server's message, with the reference that support will ask for.
  const showOutcome = ({ message: text, reference }) =>
    show(reference ? `${text} (Reference: ${reference})` : text);

  async function post(address, fields) {
    const response = await fetch(address, {
      method: "POST",
      credentials: "include",
      headers: { Accept: "application/json", ...(fields && { "Content-Type": "application/json" }) },
      body: fields && JSON.stringify(fields),
    });
    const wait = Number(response.headers.get("Retry-After")) || usualPause;
    return { ...(await response.json()), wait };
  }

  // The server checks the state, and exchanges the code only once even if this repeats.
  async function finish({ code, state }) {
    for (let waited = 0; ; ) {
      const result = await post(callback, { code, state });
      if (result.outcome === "connected" || result.retry === "none") return leavePage(result);
      if (result.retry !== "reload" || (waited += result.wait) > waitLimit) return showOutcome(result);
      show(result.message, { busy: true });
      await pause(result.wait);
    }
  }

  function leavePage(result) {
    if (result.outcome !== "connected" && result.outcome !== "finishing") return showOutcome(result);
    const home = new URL(result.return_to, location);
    home.searchParams.set("finch", result.outcome);
    return location.assign(home);
  }

  const unreachable = () => show("We could not reach the server. Please try again.");

  async function begin() {
    const opened = await post(form.action);
    if (!opened.session_id) return showOutcome(opened);
    // Only once: a second initialize would handle every message twice.
    connect ??= FinchConnect.initialize({
      apiConfig: { connectUrl: opened.connect_origin },
      onSuccess: handed => {
        show("One moment …", { busy: true });
        finish(handed).catch(unreachable);
      },
      onError: () => show("The connection was not completed. You can try again."),
      onClose: () => show("You left before the connection was made. Nothing has changed."),
    });
    connect.open({ sessionId: opened.session_id, state: opened.state });
    // The SDK gives its frame no title, so a screen reader would read out a URL.
    document.getElementById("finch-connect-iframe")?.setAttribute("title", "Finch Connect");
  }

  form.addEventListener("submit", event => {
    event.preventDefault();
    show("One moment …", { busy: true });
    begin().then(() => { button.disabled = false; }).catch(unreachable);
  });
})();
