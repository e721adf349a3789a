"""Sentences in every language that instructions ask for, written for this test."""

import pytest

from tsugiki.evaluation.instructions.languages import language_of

SENTENCES = {
    "en": "My sister keeps bees behind the house, and in summer we sell the honey.",
    "ja": "姉は家の裏で蜂を飼っていて、夏には蜂蜜を売ります。",
    "zh": "我姐姐在房子后面养蜜蜂，夏天我们卖蜂蜜。",
    "ko": "누나는 집 뒤에서 벌을 키우고 여름에는 꿀을 팝니다.",
    "fr": "Ma sœur garde des abeilles derrière la maison, et en été nous vendons le miel.",
    "de": "Meine Schwester hält Bienen hinter dem Haus, und im Sommer verkaufen wir den Honig.",
    "es": "Mi hermana cría abejas detrás de la casa y en verano vendemos la miel.",
    "it": "Mia sorella alleva le api dietro la casa e in estate vendiamo il miele.",
    "pt": "A minha irmã cria abelhas atrás da casa e no verão vendemos o mel.",
    "nl": "Mijn zus houdt bijen achter het huis en in de zomer verkopen we de honing.",
    "vi": "Chị tôi nuôi ong ở sau nhà và chúng tôi bán mật ong trong mùa hè.",
    "fi": "Siskoni pitää mehiläisiä talon takana, ja kesällä me myymme hunajaa, joka on hyvin hyvää.",
    "pl": "Moja siostra trzyma pszczoły za domem i w lecie sprzedajemy miód, który jest bardzo dobry.",
    "sw": "Dada yangu anafuga nyuki nyuma ya nyumba na wakati wa joto tunauza asali.",
    "ru": "Моя сестра держит пчёл за домом, и летом мы продаём мёд.",
    "uk": "Моя сестра тримає бджіл за хатою, і влітку ми продаємо мед.",
    "bg": "Сестра ми отглежда пчели зад къщата и през лятото продаваме меда.",
    "ar": "أختي تربي النحل خلف المنزل وفي الصيف نبيع العسل.",
    "fa": "خواهرم پشت خانه زنبور نگه می‌دارد و تابستان عسل می‌فروشیم.",
    "ur": "میری بہن گھر کے پیچھے شہد کی مکھیاں پالتی ہے اور گرمیوں میں ہم شہد بیچتے ہیں۔",
    "hi": "मेरी बहन घर के पीछे मधुमक्खियाँ पालती है और गर्मियों में हम शहद बेचते हैं।",
    "mr": "माझी बहीण घराच्या मागे मधमाश्या पाळते आणि उन्हाळ्यात आम्ही मध विकतो.",
    "ne": "मेरी दिदीले घर पछाडि मौरी पाल्नुहुन्छ र गर्मीमा हामी मह बेच्छौं।",
    "bn": "আমার বোন বাড়ির পিছনে মৌমাছি পালে।",
    "pa": "ਮੇਰੀ ਭੈਣ ਘਰ ਦੇ ਪਿੱਛੇ ਮਧੂ ਮੱਖੀਆਂ ਪਾਲਦੀ ਹੈ।",
    "gu": "મારી બહેન ઘરની પાછળ મધમાખીઓ ઉછેરે છે.",
    "ta": "என் அக்கா வீட்டின் பின்னால் தேனீ வளர்க்கிறாள்.",
    "te": "మా అక్క ఇంటి వెనుక తేనెటీగలను పెంచుతుంది.",
    "kn": "ನನ್ನ ಅಕ್ಕ ಮನೆಯ ಹಿಂದೆ ಜೇನು ಸಾಕುತ್ತಾಳೆ.",
    "ml": "എന്റെ ചേച്ചി വീടിനു പിന്നിൽ തേനീച്ചയെ വളർത്തുന്നു.",
    "th": "พี่สาวของฉันเลี้ยงผึ้งหลังบ้าน",
    "he": "אחותי מגדלת דבורים מאחורי הבית.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_is_told_by_its_language(code: str) -> None:
    assert language_of(SENTENCES[code]) == code
    assert language_of(SENTENCES[code].upper()) == code


def test_foreign_names_change_nothing_and_nothing_is_told_of_nothing() -> None:
    assert language_of("東京タワー (Tokyo Tower) は Minato にあります。") == "ja"
    assert language_of("The word 猫 means cat, and 犬 is a dog.") == "en"
    assert language_of("123 !?") is None
    assert language_of("Zorp blick frundle") is None
