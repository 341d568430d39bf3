// One pusher-js client, driven by JSON lines.
//
// Standard input, first line:  {"key", "host", "port", "auth_url", "token"}
// then any number of:          {"do": "subscribe" | "unsubscribe", "channel"}
// Standard output:             {"event", "channel", "data"}, one line for each thing that pusher-js tells; what concerns
//                              the connection and not a channel has the channel null.
//
// It ends with its standard input, and so with the process that started it.
import { createInterface } from "node:readline";

import Pusher from "pusher-js";

function tell(event, channel, data) {
  process.stdout.write(`${JSON.stringify({ event, channel, data: data ?? null })}\n`);
}

function connect({ key, host, port, auth_url, token }) {
  const pusher = new Pusher(key, {
    cluster: "", // must be given; wsHost is what counts
    wsHost: host,
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    disableStats: true,
    channelAuthorization: {
      endpoint: auth_url,
      transport: "ajax",
      headers: { Authorization: `Bearer ${token}` },
    },
  });
  pusher.connection.bind("connected", () => tell("connected", null, { socket_id: pusher.connection.socket_id }));
  pusher.connection.bind("error", (error) => tell("error", null, { message: String(error?.error?.data?.message ?? error?.type) }));
  return pusher;
}

let pusher = null;

const actions = {
  subscribe: (channel) => pusher.subscribe(channel).bind_global((event, data) => tell(event, channel, data)),
  unsubscribe: (channel) => {
    pusher.unsubscribe(channel);
    tell("unsubscribed", channel);
  },
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const message = JSON.parse(line);
    if (pusher === null) {
      pusher = connect(message);
    } else {
      actions[message.do](message.channel);
    }
  })
  .on("close", () => {
    pusher?.disconnect();
    process.exit();
  });
