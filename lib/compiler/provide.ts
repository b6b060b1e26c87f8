/** Hands the builder of model.so to the room that loads checkpoints (lib/run/builder.ts). Imported for that by lib/index.ts and the command line. */
import { provideModuleBuilder } from '../run/builder.js';

provideModuleBuilder(async () => {
  const { archOf, ensureModule } = await import('./ensure.js');
  return (folder, { computeCapability, onProgress, signal }) =>
    ensureModule(folder, { arch: archOf(computeCapability), onProgress, ...(signal && { signal }) });
});
