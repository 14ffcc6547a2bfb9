import packageJson from '../../package.json' with { type: 'json' };

/** The version of this release, like `1.0.0`. */
export const VERSION: string = packageJson.version;

/** The version of Node.js, like `24.21.0`. */
export const NODE_VERSION = process.versions.node;
