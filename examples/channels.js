// The few lines of the Pusher protocol that these pages need. A platform uses pusher-js, which does the same and more.

const user = new URLSearchParams(location.search).get("user") ?? "alice";
const settings = await (await fetch(`config.json?user_id=${encodeURIComponent(user)}`)).json();

/** Calls goalsvc's API as the platform's backend would; a browser of a real platform never holds this key. */
export async function call(method, path, body, key) {
  const headers = { Authorization: `Bearer ${settings.api_key}`, "Content-Type": "application/json" };
  if (method === "POST") headers["Idempotency-Key"] = key ?? crypto.randomUUID();
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const result = await answer.json();
  if (!answer.ok) throw new Error(result.detail ?? `${method} ${path}: ${answer.status}`);
  return result;
}

/** One connection to Pusher (in dev: to its emulator), as the user of this page. */
export class Channels {
  #handlers = new Map();

  static async connect() {
    const channels = new Channels();
    const { host, port, key, tls } = settings.pusher;
    channels.socket = new WebSocket(`${tls ? "wss" : "ws"}://${host}:${port}/app/${key}?protocol=7&client=examples`);
    await new Promise((resolve, reject) => {
      channels.socket.onerror = () => reject(new Error("Pusher cannot be reached"));
      channels.socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.event !== "pusher:connection_established") return;
        channels.socketId = JSON.parse(message.data).socket_id;
        resolve();
      };
    });
    channels.socket.onmessage = ({ data }) => channels.#take(JSON.parse(data));
    return channels;
  }

  /** Joins a channel, after goalsvc has signed the request for this user; calls `handler(event, data)` for what is sent there. */
  async subscribe(channel, handler = () => {}) {
    this.#handlers.set(channel, handler);
    const answer = await fetch("/pusher/auth", {
      method: "POST",
      headers: { Authorization: `Bearer ${settings.user_token}`, "Content-Type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ socket_id: this.socketId, channel_name: channel }),
    });
    if (!answer.ok) throw new Error((await answer.json()).detail);
    this.#send("pusher:subscribe", { channel, ...(await answer.json()) });
  }

  unsubscribe(channel) {
    this.#handlers.delete(channel);
    this.#send("pusher:unsubscribe", { channel });
  }

  #send(event, data) {
    this.socket.send(JSON.stringify({ event, data }));
  }

  #take({ event, channel, data }) {
    if (event === "pusher:ping") this.#send("pusher:pong", {});
    const handler = this.#handlers.get(channel);
    if (handler && !event.startsWith("pusher")) handler(event, typeof data === "string" ? JSON.parse(data) : data);
  }
}

/** Shows values by the ids of elements, and one line per thing that happened. */
export const page = {
  user,
  show(values) {
    for (const [id, value] of Object.entries(values)) document.getElementById(id).textContent = value;
  },
  log(text) {
    const line = document.createElement("li");
    line.textContent = `${new Date().toLocaleTimeString()} ${text}`;
    document.getElementById("log").prepend(line);
  },
  /** Runs `action` when the button is pressed; an error becomes a line of the log. */
  on(id, action) {
    document.getElementById(id).onclick = async () => {
      try {
        await action();
      } catch (error) {
        page.log(error.message);
      }
    };
  },
};
