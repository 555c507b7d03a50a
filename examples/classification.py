# classification.py
from llmtasker.tasks.classification import Classification

task = Classification(
    llm="offline",  # e.g. langchain_openai.AzureChatOpenAI(...)
    instructions="Classe le texte.\nLes classes :\n{classes}\nDes exemples :\n{examples}",
    examples={"un regard perçant": "chat", "leurs queues remuent": "chien"},
    labels=Classification.build_labels_from_list(["chat", "chien", "autre"]),
)

if __name__ == "__main__":
    for item in task.run(inputs=["sa queue remue", "quel regard", 3.5]):
        print(item.output or item.error)
