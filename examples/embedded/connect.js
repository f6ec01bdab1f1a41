// The embedded flow of Finch Connect: the employer never leaves the page.
//
//   <form method="post" action="/connect"><button>Connect payroll</button></form>
//   <script src="https://prod-cdn.tryfinch.com/latest/connect.js" defer></script>
//   <script src="/connect.js" data-callback="/finch/callback" defer></script>
//
// Where one of the scripts does not load, the same form begins the redirect flow.
"use strict";

(() => {
  const form = document.querySelector("form[action$='/connect']");
  if (!form || !window.FinchConnect) return;

  const button = form.querySelector("button");
  const callback = new URL(document.currentScript.dataset.callback, form.action);
  const message = form.appendChild(document.createElement("output"));
  const patience = 120, usualPause = 2; // seconds
  let connect = null;

  const pause = seconds => new Promise(done => setTimeout(done, seconds * 1000));

  function say(text, { busy = false } = {}) {
    message.textContent = text;
    button.disabled = busy;
  }

  // What the server answered, under a reference that whoever helps will ask for.
  const told = ({ message: text, reference }) =>
    say(reference ? `${text} (Reference: ${reference})` : text);

  async function post(address, fields) {
    const answer = await fetch(address, {
      method: "POST",
      credentials: "include",
      headers: { Accept: "application/json", ...(fields && { "Content-Type": "application/json" }) },
      body: fields && JSON.stringify(fields),
    });
    const wait = Number(answer.headers.get("Retry-After")) || usualPause;
    return { ...(await answer.json()), wait };
  }

  // The server checks the state and exchanges the code once, however often it gets them.
  async function finish({ code, state }) {
    for (let waited = 0; ; ) {
      const answer = await post(callback, { code, state });
      if (answer.outcome === "connected" || answer.retry === "none") return goOn(answer);
      if (answer.retry !== "reload" || (waited += answer.wait) > patience) return told(answer);
      say(answer.message, { busy: true });
      await pause(answer.wait);
    }
  }

  function goOn(answer) {
    if (answer.outcome !== "connected" && answer.outcome !== "finishing") return told(answer);
    const home = new URL(answer.return_to, location);
    home.searchParams.set("finch", answer.outcome);
    return location.assign(home);
  }

  const unreachable = () => say("We could not reach the server. Please try again.");

  async function begin() {
    const opened = await post(form.action);
    if (!opened.session_id) return told(opened);
    // Once: a second initialize would answer every message a second time.
    connect ??= FinchConnect.initialize({
      apiConfig: { connectUrl: opened.connect_origin },
      onSuccess: handed => {
        say("One moment …", { busy: true });
        finish(handed).catch(unreachable);
      },
      onError: () => say("Your payroll was not connected. You can try again."),
      onClose: () => say("You left before the connection was made. Nothing has changed."),
    });
    connect.open({ sessionId: opened.session_id, state: opened.state });
    // The SDK gives its frame no title, and a screen reader would read out an address.
    document.getElementById("finch-connect-iframe")?.setAttribute("title", "Finch Connect");
  }

  form.addEventListener("submit", event => {
    event.preventDefault();
    say("One moment …", { busy: true });
    begin().then(() => { button.disabled = false; }).catch(unreachable);
  });
})();
