"""Use a LangChain chat model; needs `pip install "llmtasker[langchain]"`.

Here it is LangChain's own fake, which only returns texts: replace it with `AzureChatOpenAI(...)` or another chat model.
"""

from langchain_core.language_models import FakeListChatModel

from llmtasker import LLM
from llmtasker.tasks.classification import Classification

chat = FakeListChatModel(responses=["C'est un **chat**.", '```json\n{"label": "chien"}\n```'])
task = Classification(llm=LLM.of(chat, cache=False), labels=["chat", "chien", "autre"], language="fr")

if __name__ == "__main__":
    for text in ("un regard perçant", "leurs queues remuent"):
        item = task(text)
        print(item.output, item.repairs)
