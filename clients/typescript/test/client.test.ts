/** The client against a goalsvc that runs (`GOALSVC_API_URL`, `GOALSVC_API_KEY`), and against answers that fail. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { allOf, ApiError, openGoalsvc } from "../src/index.js";

const API_URL = process.env["GOALSVC_API_URL"] ?? "http://127.0.0.1:8000";
const API_KEY = process.env["GOALSVC_API_KEY"] ?? "goalsvc-api-key";
const goalsvc = openGoalsvc(API_URL, API_KEY);
const viewer = `ts-${crypto.randomUUID().slice(0, 8)}`;

test("a show is funded, in types", async () => {
  const { data: session } = await goalsvc.POST("/v1/sessions", { body: { user_id: `${viewer}-streamer` } });
  assert(session);
  const { data: goal } = await goalsvc.POST("/v1/goals", {
    body: {
      kind: "FundingGoal",
      session_id: session.id,
      levels: [{ title: "Fund it", target: 100 }],
      metadata: { show: { title: "Ukulele", target: 60 } },
    },
  });
  assert(goal);
  const wallet = { params: { path: { user_id: viewer } } };
  await goalsvc.POST("/v1/wallets/{user_id}/deposits", { ...wallet, body: { amount: 100 } });
  const path = { params: { path: { goal_id: goal.id } } };
  const { data: given } = await goalsvc.POST("/v1/goals/{goal_id}/contributions", {
    ...path,
    body: { user_id: viewer, amount: 40 },
  });
  assert.equal(given?.progress, 40);
  const { data: left } = await goalsvc.GET("/v1/wallets/{user_id}", wallet);
  assert.equal(left?.balance, 60);
});

test("a refusal is an ApiError", async () => {
  const call = goalsvc.POST("/v1/wallets/{user_id}/withdrawals", {
    params: { path: { user_id: viewer } },
    body: { amount: 1000 },
  });
  await assert.rejects(call, (error: ApiError) => {
    assert.deepEqual([error.status, error.code], [402, "insufficient_funds"]);
    assert.match(error.requestId ?? "", /^req_/);
    return true;
  });
});

test("a list is read page after page", async () => {
  for (const amount of [1, 2, 3]) {
    await goalsvc.POST("/v1/wallets/{user_id}/deposits", {
      params: { path: { user_id: `${viewer}-pages` } },
      body: { amount },
    });
  }
  const amounts: number[] = [];
  const query = { user_id: `${viewer}-pages`, limit: 1 };
  for await (const transfer of allOf((cursor) =>
    goalsvc.GET("/v1/transfers", { params: { query: cursor === undefined ? query : { ...query, cursor } } }),
  )) {
    amounts.push(transfer.amount);
  }
  assert.deepEqual(amounts.sort(), [1, 2, 3]);
});

test("a POST is made again under one key, with its body", async () => {
  const seen: [string | null, string][] = [];
  const answers = [new Response("busy", { status: 503 }), new TypeError("broken"), Response.json({ id: "x" }, { status: 201 })];
  const failing = openGoalsvc("http://127.0.0.1:1", "key", {
    firstMilliseconds: 1,
    async fetch(request) {
      seen.push([request.headers.get("Idempotency-Key"), await request.text()]);
      const answer = answers.shift();
      if (answer instanceof Response) {
        return answer;
      }
      throw answer;
    },
  });
  await failing.POST("/v1/sessions", { body: { user_id: "alice" } });
  assert.equal(seen.length, 3);
  assert(seen[0]?.[0]);
  assert.equal(new Set(seen.map(String)).size, 1);
});

test("what is refused is not repeated, and an answer of something in between is an error", async () => {
  let calls = 0;
  const proxy = openGoalsvc("http://127.0.0.1:1", "key", {
    async fetch() {
      calls++;
      return new Response("<html>no</html>", { status: 400 });
    },
  });
  await assert.rejects(proxy.GET("/v1/goals"), (error: ApiError) => error.code === "http_400");
  assert.equal(calls, 1);
});
