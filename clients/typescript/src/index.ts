/** Client for a Hourglass service. The types of queries and answers come from its OpenAPI document. */

import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Posts = "/denoise" | "/enhance" | "/encode" | "/decode" | "/anomaly" | "/generate" | "/compress" | "/decompress";
type Query<P extends Posts> = NonNullable<paths[P]["post"]["parameters"]["query"]>;
type Models = paths["/models"]["get"]["responses"]["200"]["content"]["application/json"];
type GenerateBody = NonNullable<paths["/generate"]["post"]["requestBody"]>["content"]["application/json"];

/** The verdict on one image. */
export type Verdict = components["schemas"]["AnomalyAnswer"];
/** The latent of one image, and who made it. */
export type Latent = components["schemas"]["LatentAnswer"];
/** A model that answers. */
export type Model = Models[number];
/** A file as it is: PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, HEIC, or an array as NPY. */
export type Image = Blob | ArrayBuffer | Uint8Array<ArrayBuffer>;
type Body = Image | FormData;
/** The form of a picture that is answered. */
export type PictureType = "image/png" | "image/jpeg" | "image/webp" | "image/tiff" | "application/x-npy";

/** The service said no, and why (RFC 9457). `code` is stable, for programs; docs/errors.md lists them. */
export class HourglassProblem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly requestId: string | null,
  ) {
    super(`${detail} (${status} ${code})`);
    this.name = "HourglassProblem";
  }
}

export interface Options {
  /** Of the API, where the service wants one. */
  key?: string;
  /** How often to ask again when the service is busy (429, 503) or the connection fails. 4 if left out. */
  retries?: number;
  /** Instead of the global `fetch`. */
  fetch?: (request: Request) => Promise<Response>;
}

/** A service, as methods. `api` has every endpoint, typed, for what has no method here. */
export class Hourglass {
  readonly api: Client<paths>;

  constructor(url = "http://127.0.0.1:8000", options: Options = {}) {
    this.api = createClient<paths>({
      baseUrl: url,
      headers: options.key === undefined ? {} : { "X-API-Key": options.key },
      fetch: patient(options.fetch ?? fetch, options.retries ?? 4),
    });
  }

  /** The clean image; `accept` chooses its form. */
  denoise(image: Image, query: Query<"/denoise"> = {}, accept?: PictureType): Promise<Blob> {
    return this.picture("/denoise", image, query, accept);
  }

  /** The image, enlarged. */
  enhance(image: Image, query: Query<"/enhance"> = {}, accept?: PictureType): Promise<Blob> {
    return this.picture("/enhance", image, query, accept);
  }

  /** How unusual the image is, and where; `ignore` is a mask, white where pixels take no part in the verdict. */
  anomaly(image: Image, query: Omit<Query<"/anomaly">, "view"> = {}, ignore?: Image): Promise<Verdict> {
    return this.json<Verdict>("/anomaly", withIgnored(image, ignore), query);
  }

  /** Where the image is unusual, in colour over the image; `ignore` as for `anomaly`. */
  heatmap(
    image: Image,
    query: Omit<Query<"/anomaly">, "view"> = {},
    accept: PictureType = "image/png",
    ignore?: Image,
  ): Promise<Blob> {
    return this.picture("/anomaly", withIgnored(image, ignore), { ...query, view: "heatmap" }, accept);
  }

  /** The image's latent. */
  encode(image: Image, query: Query<"/encode"> = {}): Promise<Latent> {
    return this.json<Latent>("/encode", image, query);
  }

  /** The image of a latent, by the model version that made it. */
  decode(latent: Latent, accept?: PictureType): Promise<Blob> {
    const { model, version } = latent;
    const body = JSON.stringify({ latent: latent.latent });
    return this.picture("/decode", new Blob([body], { type: "application/json" }), { model, version }, accept);
  }

  /** New images; `X-Seed` of the answer draws them again, so name a `seed` to have it. Several come as a ZIP. */
  generate(body: Partial<GenerateBody> = {}, query: Query<"/generate"> = {}, accept?: PictureType): Promise<Blob> {
    const json = new Blob([JSON.stringify(body)], { type: "application/json" });
    return this.picture("/generate", json, query, accept);
  }

  /** One small file of an image. */
  compress(image: Image, query: Query<"/compress"> = {}): Promise<Blob> {
    return this.picture("/compress", image, query, undefined);
  }

  /** The image of a file of `compress`. */
  decompress(file: Blob, query: Query<"/decompress"> = {}, accept?: PictureType): Promise<Blob> {
    return this.picture("/decompress", new Blob([file], { type: "application/vnd.hourglass" }), query, accept);
  }

  /** The live models. */
  async models(): Promise<Models> {
    const { data, error, response } = await this.api.GET("/models");
    return data ?? fail(response, error);
  }

  private async picture(path: Posts, body: Body, query: object, accept: string | undefined): Promise<Blob> {
    const answer = await this.post(path, body, query, accept, "blob");
    return answer as Blob;
  }

  private async json<T>(path: Posts, body: Body, query: object): Promise<T> {
    const answer = await this.post(path, body, query, "application/json", "json");
    return answer as T;
  }

  private async post(
    path: Posts,
    body: Body,
    query: object,
    accept: string | undefined,
    parseAs: "blob" | "json",
  ): Promise<unknown> {
    const sent = body instanceof FormData ? body : blobOf(body);
    const headers: Record<string, string> = accept === undefined ? {} : { Accept: accept };
    // `fetch` names the boundary of a form.
    if (sent instanceof Blob) headers["Content-Type"] = sent.type || "application/octet-stream";
    // The types are checked where this is called: here all endpoints are one.
    const { data, error, response } = await this.api.POST(path as "/denoise", {
      body: sent as never,
      bodySerializer: (same: unknown) => same as Blob | FormData,
      params: { query: query as Query<"/denoise"> },
      headers,
      parseAs,
    });
    return error === undefined ? data : fail(response, error);
  }
}

function blobOf(image: Image): Blob {
  return image instanceof Blob ? image : new Blob([image]);
}

function withIgnored(image: Image, ignore: Image | undefined): Body {
  if (ignore === undefined) return image;
  const form = new FormData();
  form.append("file", blobOf(image));
  form.append("ignore", blobOf(ignore));
  return form;
}

function fail(response: Response, error: unknown): never {
  const problem = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
  const detail = String(problem["detail"] ?? (error || response.statusText));
  const requestId = problem["request_id"] ?? response.headers.get("X-Request-ID");
  throw new HourglassProblem(response.status, String(problem["code"] ?? "unknown"), detail, requestId as string | null);
}

/** `ask`, and again after 429, 503 and failed connections: when `Retry-After` says, or after 0.25, 0.5, 1, 2 ... s. */
function patient(ask: (request: Request) => Promise<Response>, retries: number) {
  return async (request: Request): Promise<Response> => {
    for (let attempt = 0; ; attempt++) {
      const isLast = attempt >= retries;
      let pauseS = 0.25 * 2 ** attempt * (0.5 + Math.random() / 2);
      try {
        const response = await ask(request.clone());
        if (isLast || (response.status !== 429 && response.status !== 503)) return response;
        const said = Number(response.headers.get("Retry-After") ?? Number.NaN);
        if (!Number.isNaN(said)) pauseS = said;
        await response.body?.cancel();
      } catch (error) {
        if (isLast) throw error;
      }
      await new Promise((done) => setTimeout(done, pauseS * 1000));
    }
  };
}
