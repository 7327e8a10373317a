"""The miniature corpus: same bytes from the same seed, IEMOCAP's quirks, and cues that need both modalities."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny_release import folder_bytes

from data.corpus import dialog_slices, read_corpus
from data.iemocap import EMOTIONS, read_release
from data.labels import is_tie, vote_shares
from data.sample import NAME, write_release
from data.text import build_vocabulary, token_ids
from settings import TEST_SESSION, TRAIN_SESSIONS
from storage.files import InputError


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("sample"))


def test_the_same_seed_gives_the_same_bytes(release, tmp_path):
    assert folder_bytes(release) == folder_bytes(write_release(tmp_path))
    again = write_release(tmp_path)  # finished by a command that was stopped later on
    (again / "README.txt").write_text("IEMOCAP")
    with pytest.raises(InputError, match="there already"):
        write_release(tmp_path)


def test_it_has_what_the_real_release_has(release):
    source = read_release(release)
    assert source.notes == {}
    utterances = source.utterances
    assert len(utterances) >= 240
    for session in range(1, 6):
        here = [utterance for utterance in utterances if utterance.session == session]
        dialogs = {utterance.dialog_id for utterance in here}
        assert len(dialogs) >= 4
        assert any("impro" in dialog for dialog in dialogs) and any("script" in dialog for dialog in dialogs)
        assert any(dialog[-1].isalpha() for dialog in dialogs)
        assert {utterance.speaker for utterance in here} == {f"Ses0{session}F", f"Ses0{session}M"}
    external = np.array([utterance.votes_external for utterance in utterances])
    own = np.array([utterance.votes_self for utterance in utterances])
    assert (external.sum(axis=1) > 3).any(), "raters with two tags"
    assert own.any()
    ties = is_tie(vote_shares(external, own))
    assert 0.20 < ties.mean() < 0.28, "IEMOCAP has 0.25"
    ratings = "".join(path.read_text() for path in release.glob("Session*/dialog/EmoEvaluation/*.txt"))
    assert "\t;\t()" in ratings, "a self-report without a tag"
    turns = "".join(path.read_text() for path in release.glob("Session*/dialog/transcriptions/*.txt"))
    assert "M: Yeah." in turns and "_FXX" in turns and "_MXX" in turns


def test_text_and_audio_together_beat_either_and_either_beats_the_majority(miniature):
    corpus = read_corpus(miniature)
    assert corpus.name == NAME == "miniature (made up)"
    assert corpus.emotions == EMOTIONS
    assert max(rows.stop - rows.start for rows in dialog_slices(corpus.dialog_id).values()) <= 167
    shares = vote_shares(corpus.votes_external, corpus.votes_self)
    label, clear = shares.argmax(axis=1), ~is_tie(shares)
    train, test = np.isin(corpus.session, TRAIN_SESSIONS) & clear, (corpus.session == TEST_SESSION) & clear
    ids = token_ids(corpus.transcript, build_vocabulary(corpus.transcript[train]))
    text = np.stack([np.bincount(row, minlength=ids.max() + 1)[1:] > 0 for row in ids])
    audio = 0.3 * np.clip(StandardScaler().fit(corpus.audio[train]).transform(corpus.audio), -4, 4)

    def accuracy(features):
        model = LogisticRegression(C=0.3, max_iter=3000).fit(features[train], label[train])
        return model.score(features[test], label[test])

    majority = (label[test] == np.bincount(label[train]).argmax()).mean()
    both, alone = accuracy(np.hstack([text, audio])), [accuracy(text), accuracy(audio)]
    assert both > max(alone) + 0.1, (both, alone)
    assert min(alone) > majority + 0.15, (alone, majority)
