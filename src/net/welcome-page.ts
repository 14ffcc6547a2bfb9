/** What somebody gets who comes with a browser. Nothing in it comes from the request. */
export const WELCOME = {
  text: 'This is a Magic-Wormhole transit relay. WebSocket clients upgrade here; any path will do.\n',
  html: `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Magic-Wormhole transit relay</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 12vh auto; padding: 0 1.5rem;
    color: #1d2433; background: #f7f8fa }
  code, pre { font: 0.9rem/1.5 ui-monospace, monospace; background: #e8ebf1; border-radius: 4px }
  code { padding: 0.1rem 0.3rem }
  pre { padding: 0.8rem 1rem; overflow-x: auto }
  @media (prefers-color-scheme: dark) {
    body { color: #dfe3ec; background: #14171f }
    code, pre { background: #232836 }
  }
</style>
<h1>A Magic-Wormhole transit relay</h1>
<p>Two people who send each other a file with <code>wormhole</code> meet here when their computers can&rsquo;t
reach each other. What passes through is encrypted from end to end: this relay can neither read nor keep it.</p>
<p>There is nothing to see in a browser. To send by way of this relay, name it, with the port that raw clients use
(4001 unless its operator says otherwise):</p>
<pre>wormhole --transit-helper=tcp:THIS-HOST:4001 send FILE</pre>
<p>Clients in browsers take the address of this page, with <code>ws</code> for <code>http</code>.</p>
</html>
`,
} as const;
