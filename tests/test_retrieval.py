"""Retrieval: published and arithmetic values by name, laws, bad input, presets, and the whole answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim.errors import DoesNotFitError, InferSimError, SpecError, UnknownNameError, UnsupportedError
from infersim.machine.kernels.vector_search import (
    SearchParameters,
    byte_seconds,
    levels,
    queries_per_second,
    roofline_seconds,
)
from infersim.ops import vector_search as count
from infersim.retrieval import corpus
from infersim.retrieval.answer import answer
from infersim.retrieval.index import index_footprint, search_time
from infersim.retrieval.ingestion import count_tokens, count_vectors, ingest
from infersim.retrieval.recall import affine_latency, evaluations_at, fit_affine, knob_for, recall_at
from infersim.retrieval.spec import Corpus, IndexChoice, Reranker, RetrievalSpec
from infersim.retrieval.stages import embed_query, late_interaction, query_charge, rerank, search
from infersim.specs.library import (
    add_spec_folder,
    clear_cache,
    load_recall_curve,
    load_search_rates,
    load_vector_index,
    names,
)
from infersim.specs.reading import validate
from infersim.specs.served import ServedModel
from infersim.specs.vector_search import RecallCurve, VectorIndex

EMBEDDER = ServedModel(model="BAAI/bge-base-en-v1.5", hardware="L4", gpu_hour="0.8 USD")
MEASURED = load_recall_curve("pgvector-hnsw-550k-1024")
H100_BF16, H100_FP32, H100_MEMORY = 989e12, 66.9e12, 3.35e12


def spec(**changed: Any) -> RetrievalSpec:
    base = {
        "corpus": {"documents": 20_000}, "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4", "gpu_hour": "0.8 USD"},
        "index": {"preset": "faiss-hnsw", "threads": 4, "host_hour": "0.5 USD"}, "queries_per_second": 10,
    }  # fmt: skip
    return validate(RetrievalSpec, base | changed)


# --- embedding: arithmetic


def test_a_bert_base_pass_of_512_tokens_is_8_70e10_plus_9_66e9_flop() -> None:
    linear = corpus.encoder_flops(85e6, 512, layers=0, width=768)
    both = corpus.encoder_flops(85e6, 512, layers=12, width=768)
    assert linear == pytest.approx(8.704e10)
    assert both - linear == pytest.approx(9.664e9, rel=1e-3)
    assert both == pytest.approx(9.67e10, rel=1e-3)


def test_a_million_chunks_take_391_seconds_of_an_h100_at_a_quarter_of_its_peak() -> None:
    flops = 1e6 * corpus.encoder_flops(85e6, 512, layers=12, width=768)
    assert flops == pytest.approx(9.67e16, rel=1e-3)
    assert flops / (0.25 * H100_BF16) == pytest.approx(391, rel=1e-3)


def test_fifty_pairs_of_550_tokens_are_1_65e13_flop_and_42_ms_of_an_h100_at_40_percent() -> None:
    flops = corpus.cross_encoder_flops(300e6, 50, 38, 512)
    assert flops == pytest.approx(1.65e13)
    assert flops / (0.4 * H100_BF16) == pytest.approx(0.0417, rel=1e-3)


def test_late_interaction_is_a_product_of_token_vectors() -> None:
    assert corpus.late_interaction_flops(32, 1000 * 180, 128) == 2 * 32 * 180_000 * 128
    assert corpus.late_interaction_bytes(180_000, 128, 2) == 46_080_000


def test_passages_of_a_corpus() -> None:
    assert count_vectors(Corpus(documents=10, document_tokens=1000, chunk=512, overlap=64)) == 10 * np.ceil(936 / 448)
    assert count_tokens(Corpus(documents=10, document_tokens=1000, chunk=512, overlap=64)) == 10 * (1000 + 2 * 64)


@given(st.floats(1, 1e5), st.floats(8, 4096), st.floats(0, 0.9))
def test_passages_cover_the_document_and_none_is_empty(length: float, chunk: float, part: float) -> None:
    overlap = part * chunk
    found = float(corpus.passages(length, chunk, overlap))
    assert found >= 1
    assert found * (chunk - overlap) + overlap >= length * (1 - 1e-9)
    assert found == 1 or (found - 1) * (chunk - overlap) + overlap <= length * (1 + 1e-6)


# --- indexes: bytes


def test_a_million_vectors_of_768_floats_are_3_072_gb_flat() -> None:
    assert float(count.flat_bytes(1e6, 768)) == 3.072e9


def test_hnsw_with_m_32_takes_3328_bytes_a_vector_of_768() -> None:
    assert float(count.hnsw_bytes(1, 768, 32)) == 3328
    assert float(count.hnsw_bytes(1e6, 768, 32)) == pytest.approx(3.33e9, rel=1e-3)
    assert float(index_footprint(load_vector_index("faiss-hnsw"), 1e6, 768).memory) == 3.328e9


def test_the_sizing_guide_of_scylladb_says_3_99_gb() -> None:
    assert float(count.headroom_bytes(1e6, 768, per_vector=16 * 16, factor=1.2)) == pytest.approx(3.99e9, rel=1e-3)
    assert float(index_footprint(load_vector_index("scylladb"), 1e6, 768).memory) == pytest.approx(3.99e9, rel=1e-3)


def test_faiss_opq32_ivf4096_pq32_is_40_bytes_a_vector() -> None:
    """FAISS wiki: 40 MB for a million vectors; the centroids come on top."""
    of_lists = 4096 * 128 * 4
    assert float(count.ivf_bytes(1e6, 128, 4096, 32)) - of_lists == 40e6


def test_pgvector_puts_one_vector_of_1024_floats_on_a_page() -> None:
    pages = float(count.paged_bytes(550_000, 1024 * 4))
    assert pages / 2**20 == pytest.approx(4297, abs=0.5)
    assert pages / MEASURED.disk == pytest.approx(1.011, abs=5e-4)  # type: ignore[operator]
    assert float(index_footprint(load_vector_index("pgvector-hnsw"), 550_000, 1024).memory) == pages
    assert float(count.hnsw_bytes(550_000, 1024, 16)) == pytest.approx(2323e6, rel=1e-3)  # what N (4 d + 8 M) says


def test_qdrant_says_6_144_gb_for_a_million_vectors_of_1024() -> None:
    assert float(index_footprint(load_vector_index("qdrant"), 1e6, 1024).memory) == 6.144e9


def test_binary_codes_are_a_thirty_second_of_floats() -> None:
    assert float(count.flat_bytes(1e6, 1024, 1 / 8)) * 32 == float(count.flat_bytes(1e6, 1024))


@given(st.floats(1, 1e9), st.integers(1, 2000))
def test_pages_hold_every_item_and_waste_less_than_one_page_each(vectors: float, dimension: int) -> None:
    item = 4.0 * min(dimension, 2000)
    found = float(count.paged_bytes(vectors, item))
    assert found >= vectors * item
    assert found % 8192 == 0
    assert found <= vectors * max(2 * item, item + 8192) + 8192


# --- indexes: time


def test_a_flat_query_takes_15_4_ms_at_200_gb_per_second_and_0_92_ms_on_an_h100() -> None:
    work = {"flops": 2 * 1e6 * 768, "moved": 3.072e9}
    assert float(roofline_seconds(**work, peak=7.37e12, bandwidth=200e9)) == pytest.approx(15.4e-3, rel=5e-3)
    assert float(roofline_seconds(**work, peak=H100_FP32, bandwidth=H100_MEMORY)) == pytest.approx(0.92e-3, rel=5e-3)


def test_memory_caps_what_threads_could_answer() -> None:
    assert float(queries_per_second(1e-3, 64, memory_bytes=20e6, bandwidth=460.8e9)) == pytest.approx(23_040)


def test_a_batch_reads_flat_vectors_once() -> None:
    alone = search_time(load_vector_index("faiss-flat"), 1e6, 768, "H100-SXM")
    batch = search_time(load_vector_index("faiss-flat"), 1e6, 768, "H100-SXM", batch=32)
    assert batch.queries_per_second > 10 * alone.queries_per_second
    assert alone.alone == batch.alone


def test_latency_of_pgvector_is_affine_in_ef() -> None:
    base, slope = fit_affine(MEASURED)
    assert base == pytest.approx(1.18e-3, rel=5e-3)
    assert slope == pytest.approx(24.7e-6, rel=5e-3)
    off = [affine_latency(p.knob, base, slope) - p.latency for p in MEASURED.points]
    assert np.sqrt(np.mean(np.square(off))) < 0.1e-3


def test_the_pgvector_preset_comes_close_to_what_it_was_fitted_to() -> None:
    for point in MEASURED.points:
        index = load_vector_index("pgvector-hnsw").model_copy(update={"ef_search": point.knob})
        assert float(search_time(index, 550_000, 1024, threads=1).alone) == pytest.approx(point.latency, rel=0.2)


def test_measured_recall_is_concave_in_the_logarithm_of_ef() -> None:
    knobs, recall = np.log([p.knob for p in MEASURED.points]), [p.recall for p in MEASURED.points]
    slopes = np.diff(recall) / np.diff(knobs)
    assert (np.diff(slopes) < 0).all()
    assert (slopes > 0).all()


INDEXES = (
    "faiss-flat",
    "faiss-ivf-flat",
    "faiss-ivf-pq",
    "faiss-hnsw",
    "milvus-diskann",
    "binary-rescored",
    "pgvector-hnsw",
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(INDEXES), st.floats(1e4, 1e7), st.floats(1.01, 10), st.sampled_from([128, 384, 768]))
def test_more_vectors_take_longer_and_more_memory(name: str, vectors: float, more: float, dimension: int) -> None:
    index = load_vector_index(name)
    one, other = (search_time(index, n, dimension, threads=8) for n in (vectors, vectors * more))
    assert other.footprint.memory > one.footprint.memory
    if index.kind != "diskann":
        assert other.alone >= one.alone * 0.75  # lists are a power of two, which may halve what is scanned
    if index.kind in ("flat", "hnsw"):
        assert other.alone >= one.alone


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 500), st.integers(1, 100), st.floats(1e4, 1e8))
def test_a_wider_beam_and_more_probes_take_longer(knob: int, more: int, vectors: float) -> None:
    for name, field in (("faiss-hnsw", "ef_search"), ("faiss-ivf-flat", "probes")):
        one, other = (
            search_time(load_vector_index(name).model_copy(update={field: k}), vectors, 256, threads=1).alone
            for k in (knob, knob + more)
        )
        assert other >= one


def test_reranking_more_pairs_takes_longer() -> None:
    ranker = ServedModel(model="BAAI/bge-reranker-large", hardware="L4")
    times = [rerank(ranker, pairs, 32, 256).seconds for pairs in (1, 10, 50, 200)]
    assert times == sorted(times)
    assert times[-1] > 10 * times[0]


@given(st.floats(1, 1e12))
def test_an_index_is_read_from_somewhere(size: float) -> None:
    found = levels(size, 2e6, 1e8)
    assert float(found.private + found.shared + found.memory) == pytest.approx(1.0)
    p = SearchParameters()
    assert 1 / p.near <= float(byte_seconds(size, 2e6, p)) * (1 + 1e-9) <= (1 + 1e-6) / p.memory


@given(st.floats(2, 1e9), st.sampled_from([8, 16, 32, 64]), st.integers(1, 2000))
def test_a_graph_search_sees_no_more_than_its_links_or_the_vectors(vectors: float, M: int, ef: int) -> None:
    work = count.GraphWork(**load_search_rates("Intel-Xeon-1-core").graph.model_dump())
    seen = float(work.evaluations(vectors, M, ef))
    assert 0 < seen <= min(vectors, 2 * M * float(work.hops_of(vectors, ef))) * (1 + 1e-9)


def test_formulas_broadcast() -> None:
    sizes = np.array([1e4, 1e5, 1e6])
    for name in ("faiss-flat", "faiss-ivf-flat", "faiss-hnsw", "faiss-ivf-pq"):
        index = load_vector_index(name)
        together = search_time(index, sizes, 384, threads=4)
        single = [float(search_time(index, n, 384, threads=4).alone) for n in sizes]
        assert np.allclose(together.alone, single)


def test_a_filter_before_the_search_scans_what_passes_and_one_after_it_widens_the_beam() -> None:
    index = load_vector_index("faiss-hnsw")
    plain = search_time(index, 1e6, 384, threads=1)
    before = search_time(index, 1e6, 384, threads=1, selectivity=0.001, filtered="before")
    after = search_time(index, 1e6, 384, threads=1, selectivity=0.01, filtered="after")
    assert float(before.work.evaluations) == 1000
    assert after.work.evaluations > plain.work.evaluations
    assert float(corpus.candidates_to_fetch(10, 0.01)) == 1000


def test_replicas_share_the_queries() -> None:
    one, three = (search(IndexChoice.model_validate({"preset": "faiss-hnsw", "replicas": r}), 1e6, 384) for r in (1, 3))
    assert three.capacity == pytest.approx(3 * one.capacity)
    assert three.seconds == one.seconds


# --- recall is data


def test_a_curve_is_read_between_its_points_and_not_beyond() -> None:
    assert float(recall_at(MEASURED, 64)) == 0.831
    assert evaluations_at(MEASURED, 64) is None
    with pytest.raises(SpecError, match="from 32 to 256"):
        recall_at(MEASURED, 400)
    with pytest.raises(SpecError, match=r"up to a recall of 0.944"):
        knob_for(MEASURED, 0.99)


@given(st.floats(0.73, 0.944))
def test_the_knob_found_for_a_recall_reaches_it(recall: float) -> None:
    assert float(recall_at(MEASURED, min(knob_for(MEASURED, recall), 256.0))) == pytest.approx(recall, abs=1e-9)


def test_evaluations_of_a_curve_stand_in_for_the_fitted_ones() -> None:
    points = [{"knob": 16, "recall": 0.9, "evaluations": 500.0}, {"knob": 256, "recall": 0.99, "evaluations": 4000.0}]
    curve = RecallCurve(name="mine", kind="hnsw", engine="faiss", data="mine", vectors=1000, dimension=8, points=points)
    index = load_vector_index("faiss-hnsw").model_copy(update={"ef_search": 64})
    found = search_time(index, 1e6, 128, threads=1, curve=curve)
    assert float(found.work.evaluations) == pytest.approx(np.sqrt(500 * 4000.0))


# --- presets


@pytest.mark.parametrize("name", names("vector_indexes"))
def test_every_preset_says_where_its_figures_come_from(name: str) -> None:
    index = load_vector_index(name)
    assert index.sources
    assert all(source.ref and source.of for source in index.sources)
    found = search_time(index, 1e6, 768, threads=8)
    assert found.alone > 0
    assert found.queries_per_second > 0
    assert found.footprint.memory > 0
    assert found.build >= 0


@pytest.mark.parametrize("name", names("recall_curves"))
def test_every_curve_says_where_it_was_measured(name: str) -> None:
    curve = load_recall_curve(name)
    assert curve.sources
    assert curve.data
    assert curve.points


def test_pinecone_charges_by_the_gigabyte_searched() -> None:
    """docs.pinecone.io: 1 read unit per GB of namespace, at least 0.25."""
    choice = IndexChoice.model_validate("pinecone-serverless")
    assert query_charge(choice, 1e6, 1536) == pytest.approx(16e-6 * 6.644, rel=1e-3)
    assert query_charge(choice, 100, 1536) == pytest.approx(16e-6 * 0.25)


def test_a_service_paid_by_capacity_costs_its_least_units() -> None:
    """4 OCUs of 0.24 USD: 700.80 USD a month."""
    found = answer(spec(index={"preset": "opensearch-serverless"}))
    assert found.managed_per_month == pytest.approx(700.8)


def test_own_presets_come_first(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "vector_indexes"
    folder.mkdir()
    (folder / "ours.yaml").write_text("{name: ours, engine: ours, kind: hnsw, M: 8, request: 5 ms}")
    monkeypatch.setattr("infersim.specs.library._added", [])
    add_spec_folder(tmp_path)
    try:
        assert load_vector_index("ours").request == 0.005
    finally:
        monkeypatch.undo()
        clear_cache()


# --- stages and the whole


def test_embedding_a_query_uses_the_same_ops_as_an_estimate() -> None:
    from infersim.predict.estimate import estimate

    stage = embed_query(EMBEDDER, 32)
    assert stage.seconds == estimate("BAAI/bge-base-en-v1.5", "L4", input_tokens=32, output_tokens=1).e2e
    assert stage.usd == pytest.approx(0.8 / 3600 / stage.capacity)


def test_ingestion_is_held_up_by_its_slowest_stage_and_costs_device_time() -> None:
    found = answer(spec()).ingestion
    assert found.seconds == pytest.approx(max(found.embed_seconds, found.build_seconds))
    assert found.usd == pytest.approx(found.device_seconds / 3600 * 0.8)
    again = ingest(Corpus(documents=40_000), EMBEDDER)
    assert again.usd == pytest.approx(2 * ingest(Corpus(documents=20_000), EMBEDDER).usd)  # type: ignore[operator]


def test_changes_are_found_after_their_batch_is_embedded_and_inserted() -> None:
    found = answer(spec(corpus={"documents": 20_000, "changed_per_day": 0.1, "batch_period": "10 min"})).ingestion
    assert found.changed_per_day == pytest.approx(0.1 * found.vectors)
    assert 600 < found.freshness < 700
    assert found.usd_per_month > 0
    assert corpus.freshness_lag(600, 5, 1, mean=True) == 306


def test_the_answer_is_the_sum_of_its_stages() -> None:
    found = answer(
        spec(reranker={"model": "BAAI/bge-reranker-large", "hardware": "L4", "gpu_hour": "0.8 USD", "candidates": 20})
    )
    told = found.to_dict()
    assert told["latency_s"] == pytest.approx(sum(stage["latency_s"] for stage in told["stages"]))
    assert told["capacity_per_s"] == min(stage["capacity_per_s"] for stage in told["stages"])
    hours = sum(s["device_hour_usd"] * s["devices"] * s["copies"] for s in told["stages"])
    assert told["usd_per_month"] == pytest.approx(hours * 730 + told["ingestion"]["usd_per_month"])
    assert told["usd_per_query"] == pytest.approx(told["usd_per_month"] / (10 * 730 * 3600))
    assert max(len(line) for line in str(found).splitlines()) <= 80
    assert any("assumed" in source for source in found.sources)


def test_recall_is_told_where_a_curve_is_given() -> None:
    with_curve = spec(index={"preset": "pgvector-hnsw", "ef_search": 64, "curve": "pgvector-hnsw-550k-1024"})
    assert answer(with_curve).recall == 0.831
    assert "recall 0.831" in str(answer(with_curve))
    assert answer(spec()).recall is None


def test_a_price_that_is_not_known_is_not_made_up() -> None:
    found = answer(spec(index={"preset": "faiss-hnsw", "threads": 4}))
    assert found.usd_per_month is None
    assert found.usd_per_query is None
    assert found.ingestion.usd is not None


def test_late_interaction_is_bound_by_memory_on_a_gpu() -> None:
    stage = late_interaction("L4", 1000, 180, 32, 128)
    assert stage.seconds == pytest.approx(20e-6 + 46_080_000 / 300e9, rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"index": "faiss-hnwv"}, "did you mean 'faiss-hnsw'"),
        ({"index": {"preset": "faiss-hnsw", "ef_serch": 3}}, "ef_serch"),
        ({"index": {"preset": "faiss-hnsw", "curve": "nothing"}}, "no recall curve"),
        ({"index": {"kind": "hnsw", "M": 200, "ef_construction": 100}}, "a graph's beam must hold its links"),
        ({"index": {"kind": "ivf_flat", "lists": 4, "probes": 8}}, "more than the 4 lists"),
        ({"index": {"preset": "faiss-hnsw", "selectivity": 0}}, "selectivity"),
        ({"corpus": {"documents": 10, "chunk": 100, "overlap": 100}}, "must be less than the chunk"),
        ({"corpus": {"documents": 10, "document_tokens": {100: 0.5}}}, "must add up to 1"),
        ({"corpus": {"documents": 0}}, "documents"),
        ({"queries_per_second": 0}, "queries_per_second"),
        ({"index": {"preset": "faiss-hnsw", "host_hour": 3}}, "not a quantity in USD"),
    ],
)
def test_bad_specs_are_refused_kindly(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spec(**changed)


def test_questions_without_an_answer_are_refused() -> None:
    hnsw = load_vector_index("faiss-hnsw")
    with pytest.raises(UnsupportedError, match="flat, ivf_flat or ivf_pq"):
        search_time(hnsw, 1e6, 768, "H100-SXM")
    with pytest.raises(DoesNotFitError, match=r"needs 307\.2 GB"):
        search_time(load_vector_index("faiss-flat"), 1e8, 768, "H100-SXM")
    with pytest.raises(SpecError, match="has 96 cores"):
        search_time(hnsw, 1e6, 768, "EPYC-9654", threads=500)
    with pytest.raises(SpecError, match="must be positive"):
        search_time(hnsw, -1.0, 768)
    with pytest.raises(SpecError, match="before"):
        search_time(hnsw, 1e6, 768, selectivity=0.5, filtered="during")
    with pytest.raises(SpecError, match="does not fit a page"):
        index_footprint(load_vector_index("pgvector-hnsw"), 10, 4096)
    with pytest.raises(UnknownNameError, match="vector index"):
        load_vector_index("zzz")
    with pytest.raises(UnsupportedError, match="generates text"):
        embed_query(ServedModel(model="gpt2", hardware="L4"), 10)
    with pytest.raises(SpecError, match="asks for 10 passages of 3"):
        answer(spec(corpus={"documents": 1}))
    with pytest.raises((DoesNotFitError, InferSimError)):
        embed_query(ServedModel(model="Qwen/Qwen3-Embedding-8B", hardware="T4"), 10)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["documents", "chunk", "overlap", "document_tokens", "x"]),
                       st.one_of(st.floats(), st.text(max_size=4), st.none(), st.integers(-5, 10**13)), max_size=4))  # fmt: skip
def test_whatever_a_corpus_says_the_answer_is_a_number_or_a_kind_sentence(given_: dict[str, Any]) -> None:
    try:
        found = validate(Corpus, given_)
    except SpecError:
        return
    assert count_vectors(found) >= 1


def test_a_reranker_needs_candidates() -> None:
    with pytest.raises(SpecError, match="candidates"):
        validate(Reranker, {"model": "BAAI/bge-reranker-large", "hardware": "L4", "candidates": 0})
    assert isinstance(VectorIndex(name="x", engine="y", kind="flat"), VectorIndex)
