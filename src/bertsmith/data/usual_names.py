"""What people call columns of texts, of labels and of pairs."""

from __future__ import annotations

TEXT_NAMES = frozenset(
    [
        "texts",
        "sentence",
        "sentences",
        "review",
        "reviews",
        "reviewtext",
        "review_text",
        "content",
        "body",
        "message",
        "messages",
        "comment",
        "comments",
        "comment_text",
        "utterance",
        "query",
        "question",
        "tweet",
        "description",
        "document",
        "doc",
        "headline",
        "title",
        "abstract",
        "summary",
        "post",
        "paragraph",
        "passage",
        "input",
        "inputs",
        "prompt",
        "request",
        "snippet",
        "news",
        "article",
    ]
)
LABEL_NAMES = frozenset(
    [
        "labels",
        "label_name",
        "label_text",
        "class",
        "classes",
        "class_name",
        "category",
        "categories",
        "intent",
        "sentiment",
        "target",
        "targets",
        "topic",
        "topics",
        "tag",
        "tags",
        "emotion",
        "polarity",
        "rating",
        "ratings",
        "score",
        "stars",
        "star",
        "y",
        "output",
        "gold",
        "genre",
    ]
)
PAIRS = (
    ("text", "text_pair"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
)

__all__ = ["LABEL_NAMES", "PAIRS", "TEXT_NAMES"]
