/** What a convolution is (conv.ts says how it is computed). */
export type ConvParameters = {
  readonly batch: number;
  readonly height: number;
  readonly width: number;
  readonly kernelY: number;
  readonly kernelX: number;
  readonly stride: number;
  readonly paddingY: number;
  readonly paddingX: number;
  readonly groups: number;
};
