"""Find the names in a text from word vectors alone: which words are drugs, without a dictionary.

    x_i = [ xv_i ; |xv_i - xv_{i-1}| ]         a word's vector, and how far it is from the last one
    c_t = f * c_{t-1} + i * g,  h_t = o * tanh(c_t),  p_t = softmax(V h_t + d)

A drug's name lies far from what stands around it, so each word is told, number by number, how far
its vector jumped. The best network of the paper is an LSTM over the words of a sentence; two others
see windows of five words and say how many, from the first on, form a name, with a plain network, a
deep belief network or stacked denoising auto-encoders on top.

Source: arXiv 1610.01891 (Sadikin, Fanany and Basaruddin 2016). The body of the paper was not to be
had, so hidden sizes, rates and epochs are ours. Further it differs:

- a threshold, chosen on validation sentences alone, says from which probability on a word counts;
  names are rare and classes weighed, and without it precision and recall are traded by accident;
- names of several types are told apart, adjacent ones too (windows, `scheme=BIO`), and a chain over
  the classes of a sentence (a CRF) may stand on top;
- windows of pretraining reach over the ends of sentences (the text as one long sequence), those
  that carry a label do not, so that no answer depends on which other sentences are asked;
- vectors come from the training text alone unless `text` names more; a word without a vector has
  the mean of all, or with `unknown=pieces` what its letters say.
"""

from stackwise.build.drug_ner.layers.autoencoder import DenoisingAutoencoder
from stackwise.build.drug_ner.layers.crf import CRF
from stackwise.build.drug_ner.layers.rbm import RBM
from stackwise.build.drug_ner.learner import TokenTagger
from stackwise.build.drug_ner.networks import TagNetwork
from stackwise.build.drug_ner.representation import (
    adjacent_distance,
    decode_windows,
    window_tuples,
)
from stackwise.build.drug_ner.word_vectors.lookup import train_vectors

__all__ = [
    "CRF", "RBM", "DenoisingAutoencoder", "TagNetwork", "TokenTagger", "adjacent_distance",
    "decode_windows", "train_vectors", "window_tuples",
]  # fmt: skip
