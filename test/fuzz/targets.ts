import type { Target } from './target.ts';

/** Names of all targets, their files and their corpora. */
export const TARGET_NAMES = [
  'handshake',
  'message-handshake',
  'endpoint',
  'proxy-header',
  'websocket-frames',
  'trusted-proxies',
] as const;

export type TargetName = (typeof TARGET_NAMES)[number];

/** Files inside src whose coverage guides the fuzzer. */
export const SOURCES: Readonly<Record<TargetName, readonly string[]>> = {
  handshake: ['protocol/handshake.ts'],
  'message-handshake': ['protocol/message-handshake.ts', 'protocol/handshake.ts'],
  endpoint: ['config/endpoint.ts'],
  'proxy-header': ['protocol/proxy-header.ts', 'protocol/ip-address.ts'],
  'websocket-frames': ['protocol/websocket-frames.ts', 'transport/websocket-transport.ts'],
  'trusted-proxies': ['config/trusted-proxies.ts', 'protocol/ip-address.ts'],
};

/** Loads a target and the code under test. Late, because coverage must start before. */
export async function loadTarget(name: TargetName): Promise<Target> {
  switch (name) {
    case 'handshake':
      return (await import('./targets/handshake.ts')).handshake;
    case 'message-handshake':
      return (await import('./targets/message-handshake.ts')).messageHandshake;
    case 'endpoint':
      return (await import('./targets/endpoint.ts')).endpoint;
    case 'proxy-header':
      return (await import('./targets/proxy-header.ts')).proxyHeader;
    case 'websocket-frames':
      return (await import('./targets/websocket-frames.ts')).websocketFrames;
    case 'trusted-proxies':
      return (await import('./targets/trusted-proxies.ts')).trustedProxies;
  }
}
