"""A tiny BERT with random weights and a vocabulary of word pieces, as a folder of transformers."""

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForPreTraining, BertTokenizer


def write_bert(folder, texts, layers=6, hidden=32, heads=2, vocabulary=400, seed=0, **settings):
    """Write configuration, weights and vocabulary.

    Args:
        folder: to write into.
        texts: sentences whose words and word pieces make the vocabulary.
        layers: of the encoder.
        hidden: width of a token.
        heads: of an attention.
        vocabulary: word pieces at most.
        seed: of the weights.
        settings: others of BertConfig.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(texts, vocab_size=vocabulary, min_frequency=1, show_progress=False)
    trained.save_model(str(folder))
    tokenizer = BertTokenizer.from_pretrained(folder, model_max_length=64)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        # So wide that what a network this narrow answers depends on the text from the start.
        initializer_range=0.2,
        **settings,
    )
    torch.manual_seed(seed)
    BertForPreTraining(config).save_pretrained(folder)
    return folder
