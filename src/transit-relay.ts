#!/usr/bin/env node
const [word = 'serve', ...rest] = process.argv.slice(2);

// The programs handle signals from here on, so nothing else is loaded before them.
if (word === 'serve' && rest.length === 0) await import('./main.ts');
else if (word === 'sidecar' && rest.length === 0) await import('./sidecar/main.ts');
else {
  const { runCommand } = await import('./cli/command-line.ts');
  process.exitCode = await runCommand([word, ...rest]);
}
