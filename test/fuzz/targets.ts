import type { Target } from './target.ts';
import { clientHello } from './targets/client-hello.ts';
import { endpoint } from './targets/endpoint.ts';
import { handshake } from './targets/handshake.ts';
import { messageHandshake } from './targets/message-handshake.ts';
import { proxyHeader } from './targets/proxy-header.ts';
import { trustedProxies } from './targets/trusted-proxies.ts';
import { websocketFrames } from './targets/websocket-frames.ts';

/** Names of all targets and their corpora. */
export const TARGET_NAMES = [
  'handshake',
  'message-handshake',
  'endpoint',
  'proxy-header',
  'websocket-frames',
  'trusted-proxies',
  'client-hello',
] as const;

export type TargetName = (typeof TARGET_NAMES)[number];

export const TARGETS: Readonly<Record<TargetName, Target>> = {
  handshake,
  'message-handshake': messageHandshake,
  endpoint,
  'proxy-header': proxyHeader,
  'websocket-frames': websocketFrames,
  'trusted-proxies': trustedProxies,
  'client-hello': clientHello,
};
