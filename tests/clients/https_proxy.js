// Node's own client through a gateway that speaks HTTPS: absolute-form for http URLs, CONNECT for https ones.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const https = require("node:https");

const { PROXY, PROXY_CA, ORIGIN, SECURE_ORIGIN, ORIGIN_CA, HELLO } = process.env;
const proxy = new URL(PROXY);
const credentials = Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64");
const gateway = {
  host: proxy.hostname,
  port: proxy.port,
  ca: fs.readFileSync(PROXY_CA),
  headers: { "proxy-authorization": `Basic ${credentials}` },
};

const text = (request) =>
  new Promise((resolve, reject) => {
    request.on("error", reject);
    request.on("response", async (response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      resolve(Buffer.concat(parts).toString());
    });
    request.end();
  });

async function main() {
  const url = new URL("/hello", ORIGIN);
  const headers = { ...gateway.headers, host: url.host };
  assert.equal(await text(https.request({ ...gateway, path: url.href, headers })), HELLO);

  const secure = new URL("/hello", SECURE_ORIGIN);
  const connect = https.request({ ...gateway, method: "CONNECT", path: secure.host });
  const socket = await new Promise((resolve, reject) => {
    connect.on("error", reject);
    connect.on("connect", (response, socket) => {
      assert.equal(response.statusCode, 200);
      resolve(socket);
    });
    connect.end();
  });
  const inside = https.request(secure, { socket, agent: false, ca: fs.readFileSync(ORIGIN_CA) });
  assert.equal(await text(inside), HELLO);

  await assert.rejects(text(https.request({ ...gateway, ca: undefined, path: url.href })), /certificate/);
}

main().then(() => process.exit(0));
