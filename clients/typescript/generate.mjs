// Writes src/schema.ts, the types of the API: node generate.mjs [ADDRESS or FILE of openapi.json]
import { writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const from = process.argv[2] ?? "http://127.0.0.1:8000/openapi.json";
const address = /^https?:/.test(from) ? new URL(from) : pathToFileURL(from);
const blob = ts.factory.createTypeReferenceNode("Blob");

const types = await openapiTS(address, {
  // Images and arrays are bytes, which the generator would call strings.
  transform: (schema) => (schema.format === "binary" ? blob : undefined),
});
await writeFile(new URL("src/schema.ts", import.meta.url), `// From ${from} by generate.mjs.\n${astToString(types)}`);
