"""Triage, the task of `llmtasker demo`: which team takes a customer's message."""

from __future__ import annotations

from typing import Literal

from llmtasker.signature.fields import InputField, OutputField
from llmtasker.signature.signature import Signature

Team = Literal["billing", "delivery", "technical", "returns", "account", "other"]


class Triage(Signature):
    """Route a customer message, in French or in English, to the team that can solve it.

    The teams:
    - billing: money: invoice, payment, price, bank card, direct debit, discount code, fees, refund not received;
      facture, paiement, prélèvement, tarif, carte bancaire, code promo, frais, remboursement attendu
    - delivery: a parcel on its way: tracking, courier, driver, late, lost, address, pick-up point, missing items;
      colis, commande pas reçue, livreur, suivi, retard, adresse de livraison, point relais, article manquant
    - technical: something does not work: internet, wifi, network, SIM card, phone, app, website, slow, crash, error;
      panne, internet, réseau, carte SIM, téléphone, box, appli, site, débit, plante, ne marche pas, ne s'allume plus
    - returns: what is sent back or exchanged: wrong, broken or unwanted item, return label, warranty, replacement;
      retour, échange, article abîmé, erreur de modèle, changé d'avis, étiquette de retour, garantie, remplacement
    - account: who the customer is: login, password, code, email, name, address in the file, personal data, newsletter;
      connexion, mot de passe, identifiants, nom, coordonnées, données personnelles, désinscription
    - other: everything else: thanks, praise, opening hours, jobs, partnership, press, advice on what to buy, stock;
      merci, avis, horaires, magasin, emploi, stage, partenariat, presse, conseil avant achat, disponibilité

    If several fit, choose the team that has to act first.
    """

    message: str = InputField(description="what the customer wrote")
    team: Team = OutputField(description="the team that takes it")


EXAMPLES: list[Triage] = [
    Triage(message="The amount on my invoice is higher than the price I saw when I paid.", team="billing"),
    Triage(message="I was billed twice, when will the refund be on my bank card?", team="billing"),
    Triage(
        message="Je ne comprends pas le montant de ma facture de mars, pourquoi ces frais en plus ?", team="billing"
    ),
    Triage(message="Mon abonnement est résilié et vous continuez à me prélever, remboursez-moi.", team="billing"),
    Triage(
        message="My parcel should have arrived yesterday and the tracking says nothing, where is it?", team="delivery"
    ),
    Triage(
        message="The courier went to the wrong address and left, can he deliver it again tomorrow?", team="delivery"
    ),
    Triage(message="Ma commande n'est toujours pas arrivée, le suivi du colis est bloqué.", team="delivery"),
    Triage(message="Le livreur est passé en mon absence, quand serai-je livré ?", team="delivery"),
    Triage(message="There has been no network and no internet on my phone since the update.", team="technical"),
    Triage(message="The app crashes when I open it, and the router keeps losing the wifi.", team="technical"),
    Triage(message="Plus de connexion depuis ce matin, la box ne s'allume plus.", team="technical"),
    Triage(message="L'application plante et mon téléphone ne capte plus rien.", team="technical"),
    Triage(message="I'd like to send these shoes back, they are the wrong size.", team="returns"),
    Triage(message="The charger arrived broken, can I exchange it or return it?", team="returns"),
    Triage(message="Je souhaite retourner un article que j'ai reçu abîmé, comment faire ?", team="returns"),
    Triage(message="Vous m'avez envoyé la mauvaise couleur, je veux l'échanger contre l'autre modèle.", team="returns"),
    Triage(message="I forgot my password and cannot log in to my account.", team="account"),
    Triage(message="Please change the email and correct the spelling of my name in your records.", team="account"),
    Triage(message="Je voudrais modifier l'adresse mail et le mot de passe de mon espace client.", team="account"),
    Triage(message="Supprimez mon compte et mes données personnelles.", team="account"),
    Triage(message="Do you have a shop near Lille, and what time is it open on Saturday?", team="other"),
    Triage(message="Just wanted to say thank you, your colleague on the phone was lovely!", team="other"),
    Triage(message="Je cherche un emploi ou un stage, recrutez-vous dans votre magasin ?", team="other"),
    Triage(message="Quel casque me conseillez-vous pour un cadeau, et quand sera-t-il disponible ?", team="other"),
]
