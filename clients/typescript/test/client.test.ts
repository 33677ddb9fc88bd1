/** Against a running service with the toy model of tests/service: HOURGLASS_URL says where, HOURGLASS_IMAGE has a 4x4 PNG,
 * HOURGLASS_SPOT one with a spot, and HOURGLASS_HALF a mask over it. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Hourglass, HourglassProblem, type Verdict } from "../src/index.js";

const url = process.env["HOURGLASS_URL"] ?? "";
const image = new Uint8Array(await readFile(process.env["HOURGLASS_IMAGE"] ?? ""));
const hourglass = new Hourglass(url);

async function starts(blob: Blob): Promise<string> {
  return Buffer.from(await blob.slice(0, 12).arrayBuffer()).toString("latin1");
}

test("pictures go in as bytes and come out in the form that was asked for", async () => {
  assert.match(await starts(await hourglass.denoise(image)), /^\x89PNG/);
  const webp = await hourglass.denoise(new Blob([image]), { model: "toy" }, "image/webp");
  assert.match(await starts(webp), /^RIFF....WEBP/s);
  assert.equal(webp.type, "image/webp");
});

test("a verdict is typed, and its heat map is a picture", async () => {
  const verdict: Verdict = await hourglass.anomaly(image, { max_fpr: 0.05 });
  assert.equal(verdict.model, "toy");
  assert.equal(verdict.is_anomalous, false);
  assert.ok(Math.abs(verdict.score - (100 / 255) ** 2) < 1e-6);
  assert.match(await starts(await hourglass.heatmap(image)), /^\x89PNG/);
});

test("what a mask covers takes no part in a verdict and its heat map", async () => {
  const [spot, half] = [process.env["HOURGLASS_SPOT"] ?? "", process.env["HOURGLASS_HALF"] ?? ""];
  const [image, mask] = [new Uint8Array(await readFile(spot)), new Uint8Array(await readFile(half))];
  const query = { model: "ignoring" };
  assert.equal((await hourglass.anomaly(image, query)).is_anomalous, true);
  assert.equal((await hourglass.anomaly(image, query, mask)).score, 0);
  assert.match(await starts(await hourglass.heatmap(new Blob([image]), query, "image/webp", mask)), /^RIFF....WEBP/s);
});

test("a latent goes out and in again", async () => {
  const latent = await hourglass.encode(image);
  assert.equal(latent.latent.length, 4);
  assert.match(await starts(await hourglass.decode(latent)), /^\x89PNG/);
});

test("models are listed, and every other endpoint is in `api`", async () => {
  const models = await hourglass.models();
  assert.deepEqual(models.map(({ name }) => name).sort(), ["ignoring", "toy"]);
  const { data } = await hourglass.api.GET("/health/ready");
  assert.equal(data?.status, "ready");
});

test("a problem is an exception with a stable code", async () => {
  await assert.rejects(hourglass.denoise(new Uint8Array([1, 2, 3])), (problem: HourglassProblem) => {
    assert.ok(problem instanceof HourglassProblem);
    assert.equal(problem.status, 415);
    assert.equal(problem.code, "unsupported-media-type");
    return true;
  });
  await assert.rejects(hourglass.denoise(image, { model: "none" }), /no model 'none'/);
});

test("a busy service is asked again, as often as it was said", async () => {
  let asked = 0;
  const busy = async (request: Request): Promise<Response> => {
    asked += 1;
    return asked < 3 ? new Response("", { status: 503, headers: { "Retry-After": "0" } }) : fetch(request);
  };
  await new Hourglass(url, { fetch: busy }).denoise(image);
  assert.equal(asked, 3);
  asked = 0;
  await assert.rejects(new Hourglass(url, { fetch: busy, retries: 1 }).denoise(image), { status: 503 });
  assert.equal(asked, 2);
});
