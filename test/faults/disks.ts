import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  rmdirSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { errorCode } from '../../src/process/errors.ts';
import { findProgram } from '../support/programs.ts';
import { requireMount } from '../support/usage-files.ts';

/** Size of a disk image, in bytes. */
const IMAGE_BYTES = 8 * 1024 * 1024;

const PIECE_BYTES = 4096;

/** Writes a file until its disk is full. */
export function fill(path: string): void {
  const file = openSync(path, 'w');
  try {
    const piece = Buffer.alloc(PIECE_BYTES, 0x55);
    for (;;) writeSync(file, piece);
  } catch (error) {
    if (errorCode(error) !== 'ENOSPC') throw error;
  } finally {
    closeSync(file);
  }
}

/**
 * A separate disk that can fail like a real one: the kernel makes it read-only after an error.
 */
export class FailingDisk {
  /** A directory on it. */
  readonly directory: string;
  readonly #image: string;
  readonly #mountPoint: string;

  private constructor(image: string, mountPoint: string) {
    this.#image = image;
    this.#mountPoint = mountPoint;
    this.directory = join(mountPoint, 'data');
  }

  /** Null if it cannot be created; the test is marked as skipped then. */
  static mount(context: TestContext): FailingDisk | null {
    if (!requireMount(context)) return null;
    const mkfs = findProgram('mkfs.ext4');
    if (mkfs === null) {
      context.skip('needs mkfs.ext4: apt-get install e2fsprogs');
      return null;
    }
    const home = mkdtempSync(join(tmpdir(), 'relay-disk-'));
    const [image, mountPoint] = [join(home, 'image'), join(home, 'disk')];
    writeFileSync(image, '');
    truncateSync(image, IMAGE_BYTES);
    mkdirSync(mountPoint);
    execFileSync(mkfs, ['-q', '-F', image]);
    context.after(() => {
      spawnSync('umount', ['--lazy', mountPoint]);
      // Never recursively: if the disk is still mounted, its files are not ours to remove.
      rmSync(image);
      rmdirSync(mountPoint);
      rmdirSync(home);
    });
    const disk = new FailingDisk(image, mountPoint);
    try {
      disk.#attach();
    } catch {
      context.skip('needs a loop device and ext4');
      return null;
    }
    // While the disk is unmounted, there is no such directory to write to by mistake.
    mkdirSync(disk.directory);
    return disk;
  }

  /** Makes the disk fail. Calls `sync` first, because later only data that is already on the disk can be read. */
  fail(): void {
    execFileSync('sync', ['--file-system', this.directory]);
    execFileSync('mount', ['-o', 'remount,abort', this.#mountPoint]);
  }

  /**
   * Unmounts the disk, checks it, and mounts it again, as an operator does. No process may have files of it
   * open.
   */
  repair(): void {
    execFileSync('umount', [this.#mountPoint]);
    // fsck exits with 1 if it repaired something.
    spawnSync('fsck.ext4', ['-y', this.#image], { stdio: 'ignore' });
    this.#attach();
  }

  #attach(): void {
    execFileSync('mount', ['-o', 'loop', this.#image, this.#mountPoint], { stdio: 'pipe' });
  }
}
