// The run's server: every question carries the token of the page's own address.
const token = new URL(location.href).searchParams.get("token") ?? "";

export class Refused extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(kept.map(([name, value]) => [name, String(value)]));
}

async function ask(path, values = {}, options = {}) {
  const answer = await fetch(`api/${path}?${query(values)}`, {
    ...options,
    headers: { "X-Token": token },
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const detail = typeof told.detail === "string" ? told.detail : JSON.stringify(told.detail);
    throw new Refused(told.error ?? detail ?? answer.statusText, answer.status);
  }
  return answer;
}

export const get = async (path, values) => (await ask(path, values)).json();

export const post = async (path, values, body) =>
  (await ask(path, values, { method: "POST", body })).json();

export async function bytes(path, values, body) {
  const answer = await ask(path, values, body ? { method: "POST", body } : {});
  return { data: await answer.arrayBuffer(), headers: answer.headers };
}

export const address = (path, values) => `api/${path}?${query({ ...values, token })}`;

export function picture(path, values) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Refused(`${path} cannot be shown`, 0));
    image.src = address(path, values);
  });
}
