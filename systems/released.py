"""The paper's system: a text branch, an audio branch, and a fusion network over their utterance vectors.

Section 3 of the paper, networks of model.py. `released` is the fusion network of the authors' code, `paper` (paper.py)
that of Figure 4; all else is the same.
"""

import functools

import numpy as np

import model
from data.contexts import context_rows, dialog_contexts, token_rows
from data.scaling import Scaler
from data.text import MAX_TOKENS, WORD_DIM, build_vocabulary, known_shares, read_glove, token_ids, tokenize, word_matrix
from storage.files import InputError
from storage.runs import read_words
from storage.weights import check_size, load_weights
from systems.base import Recipe, Recogniser, Stage, StageData, System, correlation_layers

NETWORKS = ("text", "audio", "fusion")  # in training order
# Settings that decide the weights of a branch. Not among them, since they are then the fusion's alone: epochs,
# patience and learning rate.
_OF_BRANCHES = ("targets", "loss", "raters", "train_sessions", "dev_session", "split", "emotion", "batch_size", "seed")
_RECIPE = ("epochs", "patience", "batch_size", "learning_rate", "loss", "seed")


class DyadicFusion(System):
    """The paper's system with one of its two fusion networks, "released" or "paper"."""

    reads = ("factor", "update", "modality", "context", "words", "padding")

    def __init__(self, fusion):
        self.fusion = fusion

    def check(self, settings):
        if settings.words not in ("given", "glove"):
            raise InputError("the paper's system reads the word vectors of GloVe: drop --words")
        if settings.modality != "text+audio":
            alone = f"--modality {settings.modality} trains a branch alone"
            if settings.padding != "counted":
                raise InputError(f"{alone}, which has no context to pad: drop --padding")
            if (settings.factor, settings.update) != ("shared", "sequential"):
                raise InputError(f"{alone}, which has no correlation factor: drop --factor and --update")
            if not settings.context:
                raise InputError(f"{alone}, which sees no context: drop --no-context")
            if self.fusion != "released":
                raise InputError(f"{alone}, the same in each variant: drop --variant")

    def stages(self, settings):
        names = NETWORKS if settings.modality == "text+audio" else (settings.modality,)
        recipe = Recipe(**{name: getattr(settings, name) for name in _RECIPE})
        return tuple(
            Stage(
                name,
                recipe,
                settings.seed * len(NETWORKS) + NETWORKS.index(name),
                () if name == "fusion" else _OF_BRANCHES,
                name == names[-1],
            )
            for name in names
        )

    def work(self, task, glove):
        return _Work(self, task, glove)

    def network(self, settings, name, words, num_features, num_emotions, context_length):
        """The untrained network of a stage; `words` is the word matrix of the text branch."""
        activation = "softmax" if settings.loss == "cross_entropy" else None
        if name == "text":
            return model.text_branch(words, num_emotions, activation)
        if name == "audio":
            return model.audio_branch(num_features, num_emotions, activation)
        count_padding = settings.padding == "counted"
        how = (settings.update, settings.factor, context_length, num_emotions, activation, count_padding)
        return model.fusion_network(self.fusion, *how)

    def recogniser(self, file, run, stages, sources):
        vocabulary = scaler = None
        if "fusion" in stages and not {"text", "audio"} <= set(stages):
            folder = file("fusion.weights.h5").parent
            raise InputError(f"{folder}: stage fusion reads what text and audio make of an utterance: load all three")
        if "text" in stages:
            vocabulary = read_words(file("vocabulary.json"))
            check_size(file("text.weights.h5"), len(vocabulary), "words of vocabulary.json", WORD_DIM)
        if "audio" in stages:
            scaler = Scaler.from_json(file("scaler.json"))
            check_size(file("audio.weights.h5"), len(scaler.names), "features of scaler.json", WORD_DIM)
        words = np.zeros((len(vocabulary or ()) + 1, WORD_DIM), "float32")
        sizes = (len(scaler.names) if scaler else 0, len(run.emotions), run.context_length)
        networks = {name: self.network(run.settings, name, words, *sizes) for name in stages}
        for name, network in networks.items():
            load_weights(network, file(f"{name}.weights.h5"))
        return BranchRecogniser(run, networks, vocabulary, scaler)


class _Work:
    """See `systems.base.Work`: vocabulary and scaler are fitted on the training utterances alone."""

    def __init__(self, system, task, glove):
        self.system, self.task, self.vectors = system, task, {}
        corpus, training, settings = task.corpus, task.split["train"], task.settings
        branches = [stage.name for stage in system.stages(settings)]
        self.vocabulary = self.words = self.scaler = None
        if "text" in branches:
            self.vocabulary = build_vocabulary(corpus.transcript[training])
            known = read_glove(glove, self.vocabulary) if glove else {}
            self.ids = token_ids(corpus.transcript, self.vocabulary)
            self.words = word_matrix(self.vocabulary, known, settings.seed)
            self._say_coverage(len(known))
        if "audio" in branches:
            if not corpus.audio_names:
                raise InputError(
                    f"{corpus.name}: has no audio features; train with --modality text, or prepare the corpus with "
                    "--audio egemaps_lld"
                )
            self.scaler = Scaler.fit(corpus.audio[training], corpus.audio_names)
            self.features = self.scaler.transform(corpus.audio)

    def _say_coverage(self, num_known):
        dev = self.task.split["dev"]
        num_words = sum(len(tokenize(line)[:MAX_TOKENS]) for line in self.task.corpus.transcript[dev])
        share = f"{(self.ids[dev] > 0).sum() / num_words:.1%}" if num_words else "none"
        print(
            f"text: {len(self.vocabulary)} training words, {num_known} with a GloVe vector, the others start random; "
            f"{share} of the dev words are among them"
        )

    def files(self):
        files = {"vocabulary.json": self.vocabulary, "scaler.json": self.scaler and self.scaler.to_json()}
        return {name: content for name, content in files.items() if content is not None}

    def network(self, stage):
        task = self.task
        sizes = (len(task.corpus.audio_names), len(task.emotions), task.context_length)
        return self.system.network(task.settings, stage.name, self.words, *sizes)

    def data(self, stage, network):
        task = self.task
        targets = task.targets[task.train]
        inputs, predict_dev = getattr(self, f"_{stage.name}_data")(network)
        return StageData(
            task.corpus.utterance_id[task.train],
            lambda chosen, order: (inputs(chosen), targets[chosen]),
            predict_dev,
        )

    def _text_data(self, network):
        ids, dev = self.ids[self.task.train], self.ids[self.task.dev]
        return lambda chosen: token_rows(ids[chosen]), lambda: model.predict_tokens(network, dev)

    def _audio_data(self, network):
        features, dev = self.features[self.task.train], self.features[self.task.dev]
        return lambda chosen: {"features": features[chosen]}, lambda: model.predict_features(network, dev)

    def _fusion_data(self, network):
        task = self.task

        def contexts(rows):
            return [
                dialog_contexts(self.vectors[name], task.dialogs, rows, task.settings.context)
                for name in ("audio", "text")
            ]

        train, dev = contexts(task.train), contexts(task.dev)

        def inputs(chosen):
            audio, text = ([rows[i] for i in chosen] for rows in train)
            return context_rows(audio, text, task.context_length)

        return inputs, lambda: model.predict_contexts(network, *dev)

    def done(self, stage, network):
        if self.task.settings.modality != "text+audio" or stage.name == "fusion":
            return
        vector = model.vector_model(network)
        if stage.name == "text":
            self.vectors["text"] = model.predict_tokens(vector, self.ids)
        else:
            self.vectors["audio"] = model.predict_features(vector, self.features)


class BranchRecogniser(Recogniser):
    """Branches and fusion of a run of the paper's system, as far as it has them."""

    def __init__(self, run, networks, vocabulary, scaler):
        super().__init__(run, networks, scaler.names if scaler else ())
        self.vocabulary, self.scaler = vocabulary, scaler
        self.needs = ("transcripts", "audio_features") if scaler else ("transcripts",)

    def known_words(self, transcripts):
        return known_shares(transcripts, set(self.vocabulary)) if self.vocabulary else super().known_words(transcripts)

    @functools.cached_property
    def _with_vectors(self):
        return {name: model.with_vectors(branch) for name, branch in self.networks.items() if name != "fusion"}

    def run_branches(self, utterances):
        """What the branches say of each utterance by itself.

        Returns:
            {"text", "audio": (N, 200) vectors} and {"text", "audio": (N, C) vote shares}, as far as the run has them.
        """
        outputs = {}
        if "text" in self.networks:
            ids = token_ids(utterances.transcript, self.vocabulary)
            outputs["text"] = model.predict_tokens(self._with_vectors["text"], ids)
        if "audio" in self.networks:
            features = self.scaler.transform(utterances.audio)
            outputs["audio"] = model.predict_features(self._with_vectors["audio"], features)
        both = {branch: model.split_vectors(one) for branch, one in outputs.items()}
        return {branch: one[0] for branch, one in both.items()}, {branch: one[1] for branch, one in both.items()}

    def predict(self, utterances, dialogs, places):
        vectors, predictions = self.run_branches(utterances)
        predictions = {branch: shares[places] for branch, shares in predictions.items()}
        if "fusion" in self.networks:
            whole = self.run.settings.context
            predictions["fusion"] = model.predict_contexts(
                self.networks["fusion"],
                dialog_contexts(vectors["audio"], dialogs, places, whole),
                dialog_contexts(vectors["text"], dialogs, places, whole),
            )
        return predictions

    def dialog_network(self):
        return self.networks.get("fusion")

    def last_attention(self, context):
        network = self.dialog_network()
        if network is None:
            return super().last_attention(context)
        layer = correlation_layers(network)[-1]
        vectors = self.run_branches(context)[0]
        rows = context_rows([vectors["audio"]], [vectors["text"]], network.context_length)
        packs = {name: rows[name] for name in ("multiplicity", "segment")}
        inputs = model.keras.Model(network.input, layer.input[:2]).predict_on_batch(rows)  # [audio, text]
        _, scores = layer(inputs, **packs, return_scores=True)
        num_utterances, num_padding = len(context), max(network.context_length - len(context), 0)
        of_last = {}
        for modality, one in zip(("audio", "text"), scores, strict=True):
            views = np.asarray(one)[0, :, num_utterances - 1]  # (V, H'), query: the utterance itself
            padding = views[:, num_utterances : num_utterances + 1] if num_padding else np.zeros((len(views), 1))
            of_last[modality] = np.concatenate([views[:, :num_utterances], padding], axis=1)
        return of_last, num_padding

    def with_released_weights(self, path):
        """The recogniser with the authors' fusion network, padded to their 167 rows, in place of its own."""
        needed = {"modality": "text+audio", "variant": "released", "update": "sequential", "factor": "shared"}
        for name, value in (needed | {"context": True, "loss": "mse"}).items():
            found = getattr(self.run.settings, name)
            if found != value:
                raise InputError(
                    f"the run's {name} is {found}, the authors' weights need a run of {name} {value}; train one with "
                    "train.py's defaults"
                )
        if len(self.emotions) != 10:
            raise InputError(f"the run has {len(self.emotions)} emotions, the authors' weights are for 10")
        network = model.fusion_network("released")
        model.load_released_weights(network, path)
        return BranchRecogniser(self.run, {**self.networks, "fusion": network}, self.vocabulary, self.scaler)


SYSTEM = DyadicFusion("released")
