"""An app whose handlers use Django's ORM, wherever a `def` of theirs is called."""

from __future__ import annotations

import os
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, models, transaction

from actors import Actions, App, Events, HandlerActor, Message, Options

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()


class Word(models.Model):  # type: ignore[misc]  # Django ships no types
    """A word, and who stored it."""

    text = models.TextField()
    place = models.TextField()

    class Meta:
        app_label = "words"


def create() -> None:
    """Make the table."""
    with connection.schema_editor() as editor:
        editor.create_model(Word)


app = App()
LAST = {Events.ON_EXCEPTION: Actions.DEAD_LETTER}


def store(place: str, messages: list[Message[Any]]) -> None:
    with transaction.atomic():
        for message in messages:
            Word.objects.create(text=message.body, place=place)


@app.run_on_startup
def begin(app: App) -> None:
    Word.objects.create(text="", place="startup")


@app.run_on_shutdown
def end(app: App) -> None:
    Word.objects.create(text="", place="shutdown")


@app.route(["function"], options=LAST)
def function(messages: list[Message[Any]]) -> None:
    store("function", messages)


@app.route(["threads"], options={**LAST, Options.IN_FLIGHT: 2})
def threads(messages: list[Message[Any]]) -> None:
    store("threads", messages)


@app.route(["awaits"], options=LAST)
async def awaits(messages: list[Message[Any]]) -> None:
    await sync_to_async(store)("awaits", messages)
    await Word.objects.acreate(text="", place="acreate")


@app.route(["actor"], options=LAST)
class Actor(HandlerActor):
    def on_start(self) -> None:
        self.at_start = Word.objects.count()

    def handle(self, messages: list[Message[Any]]) -> None:
        store("actor", messages)

    def on_stop(self) -> None:
        assert Word.objects.count() > self.at_start
        Word.objects.create(text="", place="on_stop")


@app.run_every(3600.0)
def tick(app: App) -> None:
    Word.objects.create(text="", place="timer")
