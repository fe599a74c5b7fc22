"""SEPC: a detector whose head convolves over space and over the levels of the pyramid at once.

An object looks alike at several scales, and a pyramid shows it on several levels. A pyramid
convolution has a kernel for the finer level, one for the level itself and one for the coarser one,
and shares them over all levels:

    y^l = w_finer *_{stride 2} x^{l-1}  +  w_same * x^l  +  Up(w_coarser * x^{l+1})

A few of them stand where a one-stage head has two towers of convolutions; one convolution for
classes and one for boxes follow. Batch norm takes its statistics over all levels together. Above
the finest level kernels sample where they say themselves (deformable convolution), since a pyramid
of features is no pyramid of scaled pictures: `fusion` says which do.

Source: arXiv 2005.03101 and the code at github.com/jshilong/SEPC, whose numbers are met to 1e-5.
Differs from the code: branch convolutions are padded, so that maps keep their size (its author
calls the missing padding a mistake; `stackwise.layers.pyramid.SEPC(padding=0)` is the old way);
any number of levels and of pyramid convolutions; heads of RetinaNet, FCOS and ATSS in the place of
FreeAnchor's and FSAF's. Small pictures and budgets have 2 pyramid convolutions by preset, the
paper 4.
"""

from stackwise.build.sepc.learner import SEPCDetector

__all__ = ["SEPCDetector"]
