"""TensorBoard callback for models of stories: the told story beside the written one."""

from typing import Any

from lightning import Trainer

from zoo.arguments import Positive
from zoo.callbacks.picture import OnValidation
from zoo.contracts import Storyteller
from zoo.data.stories import StoryData
from zoo.tasks.loop import logged_step
from zoo.use.tell import tell


class Stories(OnValidation):
    """Stories of the validation part that the model tells, always with the same random numbers, below what is written
    on their pages.

    Args:
        most: the number of stories.
        words: most words of a page.
    """

    def __init__(self, most: Positive = 3, words: Positive = 30):
        self.most, self.words = most, words

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(task.model, Storyteller) and isinstance(data, StoryData)

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        batch = data.told(self.most, "val")
        told = tell(model, data.reader, batch.story.pictures.to(task.device), most=self.words).cpu()
        for i, (written, own) in enumerate(zip(batch.texts.tolist(), told.tolist(), strict=True)):
            rows = "".join(
                f"| {data.reader.decode(page)} | {data.reader.decode(said)} |\n"
                for page, said in zip(written, own, strict=True)
            )
            writer.add_text(f"stories/{i}", f"| written | told |\n|---|---|\n{rows}", logged_step(trainer))
